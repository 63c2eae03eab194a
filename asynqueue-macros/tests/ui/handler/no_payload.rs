use asynqueue_core::process::{Context, TaskError};
use asynqueue_macros::{Task, process};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", crate = asynqueue_core)]
struct Welcome;

#[process(crate = asynqueue_core)]
async fn bare(_: Welcome, _: Context) -> Result<(), TaskError> {
    Ok(())
}

#[process(crate = asynqueue_core)]
async fn without(_: Context) -> Result<(), TaskError> {
    Ok(())
}

#[process(crate = asynqueue_core)]
async fn empty() -> Result<(), TaskError> {
    Ok(())
}

fn main() {}
