use asynqueue_core::process::{Payload, TaskError};
use asynqueue_macros::{Task, process};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", crate = asynqueue_core)]
struct Welcome;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "count", output = u64, crate = asynqueue_core)]
struct Count;

#[process(crate = asynqueue_core)]
async fn count(_: Payload<Count>) -> Result<String, TaskError> {
    Ok(String::new())
}

#[process(crate = asynqueue_core)]
async fn bare(_: Payload<Count>) -> u64 {
    1
}

#[process(crate = asynqueue_core)]
async fn nothing(_: Payload<Welcome>) {}

fn main() {}
