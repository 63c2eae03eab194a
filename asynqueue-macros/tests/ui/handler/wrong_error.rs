use asynqueue_core::process::{Payload};
use asynqueue_macros::{Task, process};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", crate = asynqueue_core)]
struct Welcome;

struct NotAnError;

#[process(crate = asynqueue_core)]
async fn welcome(_: Payload<Welcome>) -> Result<(), NotAnError> {
    Ok(())
}

fn main() {}
