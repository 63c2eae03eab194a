use asynqueue_core::process::{Payload, TaskError};
use asynqueue_macros::{Task, process};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", crate = asynqueue_core)]
struct Welcome;

use asynqueue_core::task::Task as IsTask;

#[process(crate = asynqueue_core)]
async fn any<T: IsTask>(_: Payload<T>) -> Result<(), TaskError> {
    Ok(())
}

#[process(crate = asynqueue_core)]
async fn all(_: Payload<Welcome>, _: impl Clone) -> Result<(), TaskError> {
    Ok(())
}

fn main() {}
