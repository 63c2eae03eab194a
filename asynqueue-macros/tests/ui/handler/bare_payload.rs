use asynqueue_core::{Context, MemoryBroker, Server, TaskError};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", crate = asynqueue_core)]
struct Welcome;

async fn welcome(_: Welcome, _: Context) -> Result<(), TaskError> {
    Ok(())
}

fn main() {
    let _ = Server::builder(MemoryBroker::new()).process(welcome);
}
