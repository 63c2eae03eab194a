use asynqueue_core::process::{Payload, TaskError};
use asynqueue_macros::{Task, process};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", crate = asynqueue_core)]
struct Welcome;

#[process(blockin, crate = asynqueue_core)]
fn read(_: Payload<Welcome>) -> Result<(), TaskError> {
    Ok(())
}

#[process(crate = asynqueue_core)]
struct Mailer;

fn main() {}
