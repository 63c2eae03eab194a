use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", timeout = "30", crate = asynqueue_core)]
struct Welcome1;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", timeout = "thirty seconds", crate = asynqueue_core)]
struct Welcome2;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", retention = "1.5h", crate = asynqueue_core)]
struct Welcome3;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", deadline = "1h 30m", crate = asynqueue_core)]
struct Welcome4;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", retention = "5sec", crate = asynqueue_core)]
struct Welcome5;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", deadline = "", crate = asynqueue_core)]
struct Welcome6;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", retention = "99999999999999999999w", crate = asynqueue_core)]
struct Welcome7;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", timeout = "-5s", crate = asynqueue_core)]
struct More1;

fn main() {}
