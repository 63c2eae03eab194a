use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", crate = asynqueue_core)]
struct Welcome {
    #[task(queue = "critical")]
    user_id: u64,
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "mail", crate = asynqueue_core)]
enum Mail {
    #[task(event = "email:goodbye")]
    Goodbye {
        #[task(priority = 1)]
        user_id: u64,
    },
}

fn main() {}
