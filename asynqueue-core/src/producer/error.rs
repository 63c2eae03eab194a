//! Why a task was not accepted, or has no result.

use crate::{
    broker::{BrokerError, Conflict},
    codec::CodecError,
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
    /// The payload and what goes with it are too large together.
    #[error(
        "`{event}` is {size} bytes, {field_size} of them in {field}, and this producer takes up to {limit}: keep large data \
         elsewhere and send a reference, or raise the limit with `Producer::with_max_payload`"
    )]
    TooLarge {
        /// The event.
        event: Name,
        /// The largest part: `payload`, `header` and its key, `unique_key` or `group`.
        field: String,
        /// Its size in bytes.
        field_size: usize,
        /// The size of all parts in bytes.
        size: usize,
        /// The largest size taken.
        limit: usize,
    },
    /// The codec cannot represent the payload.
    #[error("the payload of `{event}` cannot be encoded")]
    Encode {
        /// The event.
        event: &'static str,
        /// What the codec says.
        #[source]
        source: CodecError,
    },
    /// The id cannot be used.
    #[error(transparent)]
    InvalidId(#[from] InvalidTaskId),
    /// The queue name cannot be used.
    #[error(transparent)]
    InvalidQueue(#[from] InvalidQueueName),
    /// The group cannot be used.
    #[error(transparent)]
    InvalidGroup(#[from] InvalidGroup),
    /// The limits of its group make no sense.
    #[error("`{event}`: {source}")]
    InvalidAggregate {
        /// The event.
        event: &'static str,
        /// The limit and what it should be.
        source: InvalidAggregate,
    },
    /// An option makes no sense.
    #[error("option `{option}` of `{event}` is {value}: {expected}")]
    InvalidOption {
        /// The event.
        event: &'static str,
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The producer was closed.
    #[error("the producer is closed: make another to go on")]
    ProducerClosed,
    /// The broker did not take it. It may or may not have been accepted: enqueue it again under the same id.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

crate::debug_as_text!(EnqueueError);

/// A task has no result to give.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ResultError {
    /// It was archived: out of attempts, skipped, cancelled or unreadable.
    #[error("task {task} failed: {}", failure.as_ref().map_or("no reason is known", |failure| &failure.message))]
    Failed {
        /// The task.
        task: TaskRef,
        /// The last of its failures.
        failure: Option<Box<Failure>>,
    },
    /// It will be gone the moment that it is done. A wait for it would be a race.
    #[error(
        "tasks of `{event}` are not kept once they are done, so {task} has no result to wait for: wait by \
         `enqueue(…).result()`, or give the task a `retention`"
    )]
    NotKept {
        /// The event.
        event: &'static str,
        /// The task.
        task: TaskRef,
    },
    /// It was not accepted in the first place.
    #[error(transparent)]
    NotEnqueued(#[from] Box<EnqueueError>),
    /// It is not there (any more): completed without retention, past its retention, or deleted.
    #[error("task {task} is gone: give it a `retention` to ask for its result after it is done")]
    Gone {
        /// The task.
        task: TaskRef,
    },
    /// Its result is not what was asked for.
    #[error("the result of task {task} is not a `{expected}`")]
    Decode {
        /// The task.
        task: TaskRef,
        /// The type asked for.
        expected: &'static str,
        /// What the codec says.
        #[source]
        source: CodecError,
    },
    /// The broker did not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

crate::debug_as_text!(ResultError);
