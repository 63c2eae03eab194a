//! What keeps a server from running.

use std::time::Duration;

use tokio::task::JoinError;

use crate::{
    broker::{BrokerError, InvalidSubscriber},
    process::MissingState,
    task::{InvalidQueueName, Name},
};

/// A server could not be set up, or had to stop.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// It could run nothing.
    #[error("concurrency is 0: a server needs at least one slot to run tasks in")]
    ZeroConcurrency,
    /// It would run more than a process can.
    #[error("concurrency is {value}: a server runs at most 1000000 tasks at once")]
    TooConcurrent {
        /// The concurrency.
        value: usize,
    },
    /// A time is too short to work with.
    #[error(
        "`{setting}` is {value:?}, which is too short: a lease has at least 30ms, an interval at least 1ms"
    )]
    TooShort {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: Duration,
    },
    /// A configuration asks for a part of a program that a server alone does not run.
    #[error(
        "`{section}.{key}` is set, but a server alone does not run this part: start the program by `App::from_config`, or take \
         `{section}` out of the configuration by `std::mem::take(&mut config.{section})`"
    )]
    NeedsApp {
        /// The section of the configuration.
        section: &'static str,
        /// The key in it.
        key: &'static str,
    },
    /// It has nothing to run.
    #[error(
        "no process is mounted: add one with `.process(…)` or `.subscribe(…)`, or all that derives register with `.registered()`"
    )]
    NoProcess,
    /// Two processes for one event.
    #[error("event `{event}` has two processes: mount one, or give them different events")]
    DuplicateProcess {
        /// The event.
        event: Name,
    },
    /// Two functions that aggregate one event.
    #[error("event `{event}` is aggregated twice: give it one function")]
    DuplicateAggregator {
        /// The event.
        event: Name,
    },
    /// What is made of several tasks would wait for others itself.
    #[error(
        "tasks of `{event}` would become `{into}`, which is aggregated too: take `aggregate` off `{into}`"
    )]
    AggregatedAgain {
        /// The event of the tasks.
        event: Name,
        /// The event of what they become.
        into: Name,
    },
    /// Two subscribers of one name.
    #[error("`{subscriber}` subscribes to `{event}` twice: give one of them another name")]
    DuplicateSubscriber {
        /// The event.
        event: Name,
        /// The subscriber.
        subscriber: Name,
    },
    /// A subscriber without a name.
    #[error("a subscriber to `{event}` has no name: its name tells its queue from those of others")]
    UnnamedSubscriber {
        /// The event.
        event: Name,
    },
    /// A subscriber's name that could give it the queue of another.
    #[error(transparent)]
    InvalidSubscriber(#[from] InvalidSubscriber),
    /// A subscriber whose process handles another event than its payload is published as.
    #[error(
        "`{subscriber}` would subscribe to `{event}`, the `event_name` of its process, while its payload is published as \
         `{published_as}`: leave `event_name` out, or write the event on the payload's type"
    )]
    OtherEvent {
        /// The subscriber.
        subscriber: Name,
        /// The event that the process handles.
        event: Name,
        /// The event of the payload's type.
        published_as: &'static str,
    },
    /// A queue that is named twice.
    #[error("queue `{queue}` is named twice: name it once, with one weight")]
    DuplicateQueue {
        /// The queue.
        queue: Name,
    },
    /// A limit that lets nothing run, or that has no queue.
    #[error("the limit of queue `{queue}` is {problem}")]
    QueueLimit {
        /// The queue.
        queue: Name,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A queue that would never get a turn.
    #[error("queue `{queue}` has weight 0 and would never get a turn: give it at least 1")]
    ZeroWeight {
        /// The queue.
        queue: Name,
    },
    /// A queue name that cannot be used.
    #[error(transparent)]
    InvalidQueue(#[from] InvalidQueueName),
    /// A process needs a shared value that the server was not given.
    #[error("the process of `{event}` cannot run here: {source}")]
    State {
        /// The event.
        event: Name,
        /// What the state lacks.
        source: MissingState,
    },
    /// The thread that keeps leases and records outcomes could not be started.
    #[error(
        "the server's own thread could not be started: check the limits on threads and open files"
    )]
    Thread(#[source] std::io::Error),
    /// A part of the server panicked, and the others were shut down. The parts call the broker, whose panic it most
    /// likely was; processes, layers, hooks and callbacks end no more than their attempt.
    #[error("the server stopped, for a part of it panicked: {message}")]
    Panicked {
        /// What it panicked with.
        message: String,
    },
    /// The broker is closed, or did not answer at the start.
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
