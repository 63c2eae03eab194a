use asynqueue_core::{memory::MemoryBroker, process::{Context, Payload, TaskError}, server::Server};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", output = String, crate = asynqueue_core)]
struct Welcome;

async fn welcome(_: Payload<Welcome>, _: Context) -> Result<u64, TaskError> {
    Ok(1)
}

fn main() {
    let _ = Server::builder(MemoryBroker::new()).process(welcome);
}
