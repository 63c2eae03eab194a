use asynqueue_core::process::{Payload, TaskError};
use asynqueue_macros::{Task, process};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", crate = asynqueue_core)]
struct Welcome;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:goodbye", crate = asynqueue_core)]
struct Goodbye;

#[process(crate = asynqueue_core)]
async fn both(_: Payload<Welcome>, _: Payload<Goodbye>) -> Result<(), TaskError> {
    Ok(())
}

fn main() {}
