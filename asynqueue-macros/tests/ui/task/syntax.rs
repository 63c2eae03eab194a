use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task]
struct Welcome1;

#[derive(Serialize, Deserialize, Task)]
#[task = "email:welcome"]
struct Welcome2;

#[derive(Serialize, Deserialize, Task)]
#[task("email:welcome", crate = asynqueue_core)]
struct Welcome3;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome" queue = "critical", crate = asynqueue_core)]
struct Welcome4;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", crate = "asynqueue_core")]
struct Welcome5;

#[derive(Serialize, Deserialize, Task)]
#[task(event("email:welcome"), crate = asynqueue_core)]
struct Welcome6;

fn main() {}
