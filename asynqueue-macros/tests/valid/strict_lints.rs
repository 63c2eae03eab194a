//! Generated code passes the strictest lints that a user's crate may set.

#![forbid(unsafe_code)]
#![deny(
    warnings,
    missing_docs,
    unused_qualifications,
    unused_results,
    single_use_lifetimes,
    unreachable_pub
)]
#![deny(
    elided_lifetimes_in_paths,
    missing_debug_implementations,
    trivial_casts,
    unused_lifetimes
)]

use asynqueue_core::process::{Context, Payload, Process, TaskError};
use asynqueue_macros::{FromState, Task, process};
use serde::{Deserialize, Serialize};

/// A task.
#[derive(Debug, Serialize, Deserialize, Task)]
#[task(
    event = "a",
    queue = "b",
    timeout = "1s",
    unique(ttl = "1h", fields(user_id))
)]
#[task(process = Send, crate = asynqueue_core)]
pub struct Welcome {
    /// A field.
    pub user_id: u64,
}

/// A handler.
#[derive(Debug, FromState)]
#[from_state(crate = asynqueue_core)]
pub struct Send {
    name: String,
}

impl Process<Welcome> for Send {
    async fn handle(&self, _: Payload<Welcome>, _: &Context) -> Result<(), TaskError> {
        drop(self.name.clone());
        Ok(())
    }
}

/// A handler.
///
/// # Errors
///
/// None.
#[process(crate = asynqueue_core)]
pub async fn welcome(_: Context, task: Payload<Welcome>) -> Result<(), TaskError> {
    let _ = task;
    Ok(())
}

fn main() {}
