use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", unique(ttl = "1h", fields(userid)), crate = asynqueue_core)]
struct Welcome1 {
    user_id: u64,
    region: String,
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", unique(ttl = "1h", fields(name, user_id, user_id)), crate = asynqueue_core)]
struct Welcome2 {
    user_id: u64,
    region: String,
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", unique(ttl = "1h", fields()), crate = asynqueue_core)]
struct Welcome3 {
    user_id: u64,
    region: String,
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", unique(ttl = "1h", fields = "user_id"), crate = asynqueue_core)]
struct Welcome4 {
    user_id: u64,
    region: String,
}

fn main() {}
