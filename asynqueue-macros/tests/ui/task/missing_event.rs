use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(queue = "critical", crate = asynqueue_core)]
struct Welcome;

#[derive(Serialize, Deserialize, Task)]
struct Goodbye;

fn main() {}
