//! Errors of building and running a server.

use std::time::Duration;

use tokio::task::JoinError;

use crate::{
    broker::{BrokerError, InvalidSubscriber},
    process::MissingState,
    task::{InvalidQueueName, Name},
};

/// Why a server could not be built, or had to stop.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The concurrency is 0.
    #[error("concurrency is 0: expected at least 1")]
    ZeroConcurrency,
    /// The concurrency is above the limit.
    #[error("concurrency is {value}: expected at most 1000000")]
    TooConcurrent {
        /// The configured concurrency.
        value: usize,
    },
    /// A duration is below its minimum.
    #[error(
        "`{setting}` is {value:?}: expected at least 30ms for a lease, at least 1ms for an interval"
    )]
    TooShort {
        /// The name of the builder method, such as `lease`.
        setting: &'static str,
        /// The configured duration.
        value: Duration,
    },
    /// The configuration contains a section that only an `App` runs.
    #[error(
        "`{section}.{key}` is set, but a server runs without this part: start the program with `App::from_config`, or remove the \
         section with `std::mem::take(&mut config.{section})`"
    )]
    NeedsApp {
        /// The section of the configuration, such as `scheduler`.
        section: &'static str,
        /// The first key found in the section.
        key: &'static str,
    },
    /// No handler is registered.
    #[error(
        "no handler is registered: add one with `.process(…)` or `.subscribe(…)`, or use `.registered()` for derived ones"
    )]
    NoProcess,
    /// Two handlers are registered for one event.
    #[error("event `{event}` has two handlers: register one of them, or rename the other's event")]
    DuplicateProcess {
        /// The event that both handle.
        event: Name,
    },
    /// Two aggregating functions are registered for one event.
    #[error("event `{event}` has two aggregating functions: register one of them")]
    DuplicateAggregator {
        /// The event that both aggregate.
        event: Name,
    },
    /// An aggregating function produces tasks that would be aggregated again.
    #[error(
        "tasks of `{event}` are aggregated into `{into}`, which is aggregated itself: remove `aggregate` from `{into}`"
    )]
    AggregatedAgain {
        /// The event of the group's members.
        event: Name,
        /// The event of the combined task.
        into: Name,
    },
    /// Two subscribers to one event have the same name.
    #[error("`{subscriber}` subscribes to `{event}` twice: rename one of the subscribers")]
    DuplicateSubscriber {
        /// The event they subscribe to.
        event: Name,
        /// The name they share.
        subscriber: Name,
    },
    /// A subscriber has an empty name.
    #[error(
        "a subscriber to `{event}` has an empty name: expected at least one character, because its queue is named after it"
    )]
    UnnamedSubscriber {
        /// The event it subscribes to.
        event: Name,
    },
    /// A subscriber's name could collide with the queue of another.
    #[error(transparent)]
    InvalidSubscriber(#[from] InvalidSubscriber),
    /// The handler of a subscriber has an `event_name` that differs from the event its payload is published as.
    #[error(
        "subscriber `{subscriber}` handles `{event}`, but its payload is published as `{published_as}`: remove `event_name`, or \
         set the event on the payload's type"
    )]
    OtherEvent {
        /// The name of the subscriber.
        subscriber: Name,
        /// The event that the handler is registered for.
        event: Name,
        /// The event of the payload's type.
        published_as: &'static str,
    },
    /// A queue is listed twice.
    #[error("queue `{queue}` is listed twice: list it once, with one weight")]
    DuplicateQueue {
        /// The queue listed twice.
        queue: Name,
    },
    /// The concurrency limit of a queue is 0, or its queue is not served.
    #[error("the limit of queue `{queue}` is {problem}")]
    QueueLimit {
        /// The queue with the limit.
        queue: Name,
        /// What is wrong, and how to fix it.
        problem: &'static str,
    },
    /// A queue has weight 0, so the server would never lease from it.
    #[error("queue `{queue}` has weight 0: expected at least 1")]
    ZeroWeight {
        /// The queue with the weight.
        queue: Name,
    },
    /// A queue name is invalid.
    #[error(transparent)]
    InvalidQueue(#[from] InvalidQueueName),
    /// A handler needs shared state that the server does not have.
    #[error("the handler of `{event}` cannot run: {source}")]
    State {
        /// The event that the handler is registered for.
        event: Name,
        /// The missing state.
        source: MissingState,
    },
    /// The server's internal thread could not be started.
    #[error(
        "could not start the server's internal thread: check the limits on threads and open files"
    )]
    Thread(#[source] std::io::Error),
    /// An internal task panicked, and the server shut down. The most likely cause is a panic in the broker; a panic in
    /// a handler, layer, hook or callback ends only its attempt.
    #[error("the server stopped because an internal task panicked: {message}")]
    Panicked {
        /// The panic, as tokio reports it.
        message: String,
    },
    /// The broker is closed, or was unavailable when the server started.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

crate::debug_as_text!(ServerError);

impl ServerError {
    pub(super) fn panicked(error: &JoinError) -> Self {
        Self::Panicked {
            message: error.to_string(),
        }
    }
}
