use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", unique(ttl = "1h", fields(user_id)), crate = asynqueue_core)]
struct Welcome(u64);

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", unique(ttl = "1h", fields(user_id)), crate = asynqueue_core)]
enum Mail {
    Welcome { user_id: u64 },
}

fn main() {}
