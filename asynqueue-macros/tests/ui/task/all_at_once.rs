use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(
    event = "email welcome",
    queu = "critical",
    timeout = 30,
    priority = 10,
    unique(until = "stop", fields(user)),
    backoff = fixed("ten"),
    crate = asynqueue_core
)]
struct Welcome {
    user_id: u64,
}

// Only the invalid attribute is reported: no second error is reported here.
fn enqueue(_: impl asynqueue_core::task::Task) {}

fn use_it() {
    enqueue(Welcome { user_id: 1 });
}

fn main() {}
