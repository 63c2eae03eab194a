use asynqueue_core::process::{Context, Payload, Process, TaskError};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", process = SendWelcome, crate = asynqueue_core)]
struct Welcome;

struct SendWelcome;

impl Process<Welcome> for SendWelcome {
    async fn handle(&self, _: Payload<Welcome>, _: &Context) -> Result<(), TaskError> {
        Ok(())
    }
}

fn main() {}
