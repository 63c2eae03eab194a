use asynqueue_core::{memory::MemoryBroker, process::{Context, Payload, Process, TaskError}, server::Server};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", crate = asynqueue_core)]
struct Welcome;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:goodbye", crate = asynqueue_core)]
struct Goodbye;

struct Mailer;

impl Process<Welcome> for Mailer {
    async fn handle(&self, _: Payload<Welcome>, _: &Context) -> Result<(), TaskError> {
        Ok(())
    }
}

impl Process<Goodbye> for Mailer {
    async fn handle(&self, _: Payload<Goodbye>, _: &Context) -> Result<(), TaskError> {
        Ok(())
    }
}

fn main() {
    let _ = Server::builder(MemoryBroker::new()).process(Mailer);
}
