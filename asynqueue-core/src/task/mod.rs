//! What a task is: its payload, its names, its envelope and its states.

mod aggregate;
mod attempt;
mod changes;
mod envelope;
mod failure;
mod id;
mod name;
mod options;
mod reference;
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
    reference::{InvalidTaskRef, TaskRef},
    state::TaskState,
    time::{Clock, SystemClock, Timestamp},
    unique::{Unique, UniqueKey, UniqueLock, UniqueUntil},
    wire::WireError,
};
use crate::codec::{Codec, CodecError};

/// A payload that can be enqueued: its event name, its options and the output of its handler.
///
/// Derived with `#[derive(Task)]`; written by hand it is:
///
/// ```
/// use asynqueue_core::{codec::MessagePack, task::Task};
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
/// The event name is written out and never derived from the Rust type's path, so that renaming a struct does not orphan
/// waiting tasks.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a task",
    label = "not a task",
    note = "add `#[derive(Serialize, Deserialize, Task)]` and `#[task(event = \"…\")]` to the payload struct"
)]
pub trait Task: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name that selects the handler of a payload, such as `email:welcome`.
    const EVENT: &'static str;

    /// The output of the handler, which [`TaskHandle::result`](crate::producer::TaskHandle::result) returns.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// The codec that producers encode this payload and its output with.
    type Codec: Codec;

    /// The options of every task of this type. Single calls can override them.
    ///
    /// Shared, so that a million waiting tasks of one type store them once.
    fn options() -> Arc<TaskOptions> {
        TaskOptions::shared_default()
    }

    /// The key that makes this payload unique, for types that set [`TaskOptions::unique`]. Default: a hash of [the
    /// entire payload](UniqueKey::of_value). The derive's `unique(fields(…))` selects some fields.
    ///
    /// # Errors
    ///
    /// When the payload cannot be encoded.
    fn unique_key(&self) -> Result<UniqueKey, CodecError> {
        UniqueKey::of_value::<Self::Codec>(Self::EVENT, self)
    }
}
