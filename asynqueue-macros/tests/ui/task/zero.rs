use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", timeout = "0s", crate = asynqueue_core)]
struct Welcome1;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", deadline = "0ms", crate = asynqueue_core)]
struct Welcome2;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", unique(ttl = "0h"), crate = asynqueue_core)]
struct Welcome3;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", backoff = exponential("0s", "1h"), crate = asynqueue_core)]
struct Welcome4;

fn main() {}
