use asynqueue_core::{memory::MemoryBroker, process::{Context, Payload}, server::Server};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", crate = asynqueue_core)]
struct Welcome;

struct NotAnError;

async fn welcome(_: Payload<Welcome>, _: Context) -> Result<(), NotAnError> {
    Err(NotAnError)
}

fn main() {
    let _ = Server::builder(MemoryBroker::new()).process(welcome);
}
