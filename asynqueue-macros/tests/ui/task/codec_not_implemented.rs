use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", codec = String, crate = asynqueue_core)]
struct Welcome;

fn main() {}
