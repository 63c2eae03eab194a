use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", priority = 10, crate = asynqueue_core)]
struct Welcome1;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", priority = "7", crate = asynqueue_core)]
struct Welcome2;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", max_retry = -1, crate = asynqueue_core)]
struct Welcome3;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", max_retry = 4294967296, crate = asynqueue_core)]
struct Welcome4;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", max_retry = many, crate = asynqueue_core)]
struct Welcome5;

fn main() {}
