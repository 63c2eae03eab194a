use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", group = "", crate = asynqueue_core)]
struct Welcome1;

fn main() {}
