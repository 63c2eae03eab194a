use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", crate = asynqueue_core)]
struct Welcome<T> {
    user: T,
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:goodbye", crate = asynqueue_core)]
struct Goodbye<'a> {
    user: &'a str,
}

fn main() {}
