use asynqueue_macros::{FromState, Task};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", process = SendWelcome, crate = asynqueue_core)]
struct Welcome;

#[derive(FromState)]
#[from_state(crate = asynqueue_core)]
struct SendWelcome;

fn main() {}
