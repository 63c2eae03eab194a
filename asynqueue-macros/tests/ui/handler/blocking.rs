use asynqueue_core::process::{Payload, TaskError};
use asynqueue_macros::{Task, process};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", crate = asynqueue_core)]
struct Welcome;

#[process(blocking, crate = asynqueue_core)]
async fn welcome(_: Payload<Welcome>) -> Result<(), TaskError> {
    Ok(())
}

#[process(blocking, crate = asynqueue_core)]
fn read(_: Payload<Welcome>) -> Result<u64, TaskError> {
    Ok(1)
}

fn main() {}
