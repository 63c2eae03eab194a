use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", unique(), crate = asynqueue_core)]
struct Welcome1;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", unique(until = "start"), crate = asynqueue_core)]
struct Welcome2;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", unique, crate = asynqueue_core)]
struct Welcome3;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", unique = "1h", crate = asynqueue_core)]
struct Welcome4;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", unique(ttl = "1h", until = "sucess"), crate = asynqueue_core)]
struct Welcome5;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", unique(ttl = "1h", until = start), crate = asynqueue_core)]
struct Welcome6;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", unique(ttl = "1h", field(user_id)), crate = asynqueue_core)]
struct Welcome7;

fn main() {}
