use asynqueue_core::{memory::MemoryBroker, process::{Payload, TaskError}, server::Server};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", crate = asynqueue_core)]
struct Welcome;

struct Database;

async fn welcome(_: Payload<Welcome>, _: Database) -> Result<(), TaskError> {
    Ok(())
}

fn main() {
    let _ = Server::builder(MemoryBroker::new()).process(welcome);
}
