//! Errors of enqueueing, and of waiting for results.

use crate::{
    broker::{BrokerError, Conflict},
    codec::CodecError,
    outbox::OutboxError,
    task::{
        Failure, InvalidAggregate, InvalidGroup, InvalidQueueName, InvalidTaskId, Name, TaskRef,
    },
};

/// A task was not accepted.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// Its id is taken or its unique lock is held.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The payload, the headers, the unique key and the group are too large together.
    #[error(
        "task of `{event}` has {size} bytes, {field_size} of them in {field}: expected at most {limit}; store \
         large data elsewhere and send a reference, or raise the limit with `Producer::with_max_payload`"
    )]
    TooLarge {
        /// The task's event.
        event: Name,
        /// The largest part: `payload`, `header` and its key, `unique_key` or `group`.
        field: String,
        /// Its size in bytes.
        field_size: usize,
        /// The total size in bytes.
        size: usize,
        /// The producer's limit in bytes. Default [1 MiB](crate::producer::DEFAULT_MAX_PAYLOAD).
        limit: usize,
    },
    /// The codec cannot represent the payload.
    #[error("the payload of `{event}` cannot be encoded")]
    Encode {
        /// The task's event.
        event: &'static str,
        /// The error of the codec.
        #[source]
        source: CodecError,
    },
    /// The id is invalid.
    #[error(transparent)]
    InvalidId(#[from] InvalidTaskId),
    /// The queue name is invalid.
    #[error(transparent)]
    InvalidQueue(#[from] InvalidQueueName),
    /// The group is invalid.
    #[error(transparent)]
    InvalidGroup(#[from] InvalidGroup),
    /// The limits of its group are invalid.
    #[error("`{event}`: {source}")]
    InvalidAggregate {
        /// The task's event.
        event: &'static str,
        /// The invalid limit, and what was expected.
        source: InvalidAggregate,
    },
    /// An option is invalid.
    #[error("option `{option}` of `{event}` is {value}: {expected}")]
    InvalidOption {
        /// The task's event.
        event: &'static str,
        /// The name of the option.
        option: &'static str,
        /// The rejected value.
        value: String,
        /// What was expected, and how to fix it.
        expected: &'static str,
    },
    /// The producer was closed.
    #[error("the producer is closed: create a new one to enqueue more tasks")]
    ProducerClosed,
    /// The task could not be written to an outbox: roll the transaction back.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The broker call failed. The task may or may not have been accepted: enqueue it again under the same id.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

crate::debug_as_text!(EnqueueError);

/// A task has no result to return.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ResultError {
    /// It was archived: out of attempts, skipped, cancelled or undecodable.
    #[error("task {task} failed: {}", failure.as_ref().map_or("the reason is unknown", |failure| &failure.message))]
    Failed {
        /// The failed task.
        task: TaskRef,
        /// Why it was archived: the last of its failures.
        failure: Option<Box<Failure>>,
    },
    /// It is deleted when it completes, so waiting for it would be a race.
    #[error(
        "tasks of `{event}` are deleted when they complete, so the result of {task} cannot be read: use \
         `enqueue(…).result()`, or set a `retention`"
    )]
    NotKept {
        /// The task's event.
        event: &'static str,
        /// The task to wait for.
        task: TaskRef,
    },
    /// It was not accepted in the first place.
    #[error(transparent)]
    NotEnqueued(#[from] Box<EnqueueError>),
    /// It is not stored: deleted, alone or with its queue, revoked, or past its retention.
    #[error(
        "task {task} is no longer stored: it was deleted or revoked, or its `retention` has passed, and a longer one keeps the result"
    )]
    Gone {
        /// The task to read the result of.
        task: TaskRef,
    },
    /// Its result is not an output of the requested type.
    #[error("the result of task {task} is not a `{expected}`")]
    Decode {
        /// The task with the result.
        task: TaskRef,
        /// The requested type.
        expected: &'static str,
        /// The error of the codec.
        #[source]
        source: CodecError,
    },
    /// The broker call failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

crate::debug_as_text!(ResultError);
