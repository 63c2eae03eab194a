use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", backoff = exponental("1s", "1h"), crate = asynqueue_core)]
struct Welcome1;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", backoff = linear, crate = asynqueue_core)]
struct Welcome2;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", backoff = "standard", crate = asynqueue_core)]
struct Welcome3;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", backoff = fixed, crate = asynqueue_core)]
struct Welcome4;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", backoff = fixed(), crate = asynqueue_core)]
struct Welcome5;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", backoff = fixed("1s", "2s"), crate = asynqueue_core)]
struct Welcome6;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", backoff = exponential("1s"), crate = asynqueue_core)]
struct Welcome7;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", backoff = exponential("1h", "1s"), crate = asynqueue_core)]
struct Welcome8;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", backoff = fixed("soon"), crate = asynqueue_core)]
struct Welcome9;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", backoff("10s"), crate = asynqueue_core)]
struct Welcome10;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", backoff = "10s", crate = asynqueue_core)]
struct More1;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", backoff = fixed(soon), crate = asynqueue_core)]
struct More2;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", backoff = 10, crate = asynqueue_core)]
struct More3;

fn main() {}
