//! The nouns: what a task is, how it is named, what travels with it and which states it goes through.

mod aggregate;
mod attempt;
mod changes;
mod envelope;
mod failure;
mod id;
mod name;
mod options;
mod state;
mod time;
mod unique;
mod wire;

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

pub(crate) use self::failure::cut;
pub use self::{
    aggregate::{Aggregate, InvalidAggregate},
    attempt::{Attempt, Run},
    changes::EnvelopeChanges,
    envelope::{Envelope, Headers},
    failure::{Failure, FailureKind},
    id::{InvalidTaskId, TaskId},
    name::{InvalidGroup, InvalidQueueName, Name},
    options::{Backoff, DEFAULT_QUEUE, InvalidBackoff, MAX_PRIORITY, TaskOptions},
    state::{TaskRef, TaskState},
    time::{Clock, SystemClock, Timestamp},
    unique::{Unique, UniqueKey, UniqueLock, UniqueUntil},
    wire::WireError,
};
use crate::codec::{Codec, CodecError};

/// A payload that can be enqueued: its event name, its options and what its process returns.
///
/// Derived with `#[derive(Task)]`; written by hand it is:
///
/// ```
/// use asynqueue_core::{MessagePack, Task};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct WelcomeEmail {
///     user_id: u64,
/// }
///
/// impl Task for WelcomeEmail {
///     const EVENT: &'static str = "email:welcome";
///     type Output = ();
///     type Codec = MessagePack;
/// }
/// ```
///
/// The event name is written out, never taken from the Rust type's path, so that renaming a struct orphans no
/// waiting task.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a task",
    label = "not a task",
    note = "put `#[derive(Serialize, Deserialize, Task)]` and `#[task(event = \"…\")]` on the payload struct"
)]
pub trait Task: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name that ties a payload to its process, such as `email:welcome`.
    const EVENT: &'static str;

    /// What the process returns, and [`TaskHandle::result`](crate::TaskHandle::result) yields.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// The codec that producers encode this payload and its output with.
    type Codec: Codec;

    /// The options of every task of this type; single calls can override them.
    ///
    /// Shared, because a million waiting tasks of one type need them once.
    fn options() -> Arc<TaskOptions> {
        TaskOptions::shared_default()
    }

    /// What makes this payload the same as another, for types that set [`TaskOptions::unique`]. By default [all of the
    /// payload](UniqueKey::of_value); the derive's `unique(fields(…))` narrows it.
    ///
    /// # Errors
    ///
    /// When the payload cannot be encoded.
    fn unique_key(&self) -> Result<UniqueKey, CodecError> {
        UniqueKey::of_value::<Self::Codec>(Self::EVENT, self)
    }
}
