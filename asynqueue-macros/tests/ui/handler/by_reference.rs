use asynqueue_core::process::{Context, Payload, TaskError};
use asynqueue_macros::{Task, process};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", crate = asynqueue_core)]
struct Welcome;

#[process(crate = asynqueue_core)]
async fn welcome(_: Payload<Welcome>, _: &Context) -> Result<(), TaskError> {
    Ok(())
}

fn main() {}
