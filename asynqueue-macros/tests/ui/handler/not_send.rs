use asynqueue_core::process::{Payload, TaskError};
use asynqueue_macros::{Task, process};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", crate = asynqueue_core)]
struct Welcome;

#[process(crate = asynqueue_core)]
async fn welcome(_: Payload<Welcome>) -> Result<(), TaskError> {
    let names = std::rc::Rc::new(String::new());
    std::future::ready(()).await;
    drop(names);
    Ok(())
}

fn main() {}
