//! Every attribute of a task, together.

use asynqueue_core::{
    codec::Json,
    process::{Context, Payload, Process, TaskError},
};
use asynqueue_macros::{FromState, Task};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Receipt;

#[derive(Serialize, Deserialize, Task)]
#[task(
    event = "email:welcome",
    queue = "critical",
    max_retry = 5,
    timeout = "30s",
    deadline = "1h",
    retention = "24h",
    backoff = exponential("1s", "1h",),
    unique(ttl = "1h", until = "window", fields(user_id,)),
    priority = 9,
    group = "tenant-a",
    codec = Json,
    output = Receipt,
    process = SendWelcome,
    crate = asynqueue_core,
)]
struct Welcome {
    user_id: u64,
}

#[derive(FromState)]
#[from_state(crate = asynqueue_core)]
struct SendWelcome {
    #[from_state(default)]
    sent: std::sync::atomic::AtomicU64,
}

impl Process<Welcome> for SendWelcome {
    async fn handle(&self, _: Payload<Welcome>, _: &Context) -> Result<Receipt, TaskError> {
        self.sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(Receipt)
    }
}

fn main() {}
