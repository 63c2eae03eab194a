use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", queue = "a", queue = "b", crate = asynqueue_core)]
struct Welcome1;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", timeout = "1s")]
#[task(timeout = "1s", crate = asynqueue_core)]
struct Welcome2;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", unique(ttl = "1h", ttl = "2h"), crate = asynqueue_core)]
struct Welcome3;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", unique(ttl = "1h"), unique(ttl = "2h"), crate = asynqueue_core)]
struct Welcome4;

fn main() {}
