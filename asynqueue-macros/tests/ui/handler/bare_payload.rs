use asynqueue_core::{memory::MemoryBroker, process::{Context, TaskError}, server::Server};
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
