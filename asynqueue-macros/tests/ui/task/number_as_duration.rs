use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", timeout = 30, crate = asynqueue_core)]
struct Welcome1;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", timeout = 30.5, crate = asynqueue_core)]
struct Welcome2;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", retention = -1, crate = asynqueue_core)]
struct Welcome3;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", backoff = fixed(10), crate = asynqueue_core)]
struct Welcome4;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", unique(ttl = 60), crate = asynqueue_core)]
struct Welcome5;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", timeout = 30s, crate = asynqueue_core)]
struct More1;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", timeout = 1h30m, crate = asynqueue_core)]
struct More2;

fn main() {}
