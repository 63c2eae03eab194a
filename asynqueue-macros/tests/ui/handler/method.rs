use asynqueue_core::process::{Payload, TaskError};
use asynqueue_macros::{Task, process};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", crate = asynqueue_core)]
struct Welcome;

struct Mailer;

impl Mailer {
    #[process(crate = asynqueue_core)]
    async fn welcome(&self, _: Payload<Welcome>) -> Result<(), TaskError> {
        Ok(())
    }
}

fn main() {}
