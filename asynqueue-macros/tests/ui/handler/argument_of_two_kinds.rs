use asynqueue_core::{memory::MemoryBroker, process::{Context, FromTask, Payload, TaskError}, server::Server};
use asynqueue_macros::{FromState, Task, process};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", crate = asynqueue_core)]
struct Welcome;

#[derive(FromState)]
#[from_state(crate = asynqueue_core)]
struct Tenant;

impl FromTask for Tenant {
    fn from_task(_: &Context) -> Result<Self, TaskError> {
        Ok(Self)
    }
}

#[process(crate = asynqueue_core)]
async fn welcome(_: Payload<Welcome>, _: Tenant) -> Result<(), TaskError> {
    Ok(())
}

fn main() {
    let _ = Server::builder(MemoryBroker::new()).process(welcome);
}
