//! The causes for which tasks wait, and their order.

use std::time::Duration;

use super::taker::Taker;
use crate::{
    broker::{LimitInfo, Pause},
    task::{Name, TaskRef, Timestamp},
};

/// Why tasks of a queue, or one task, wait. [`describe`](Self::describe) puts it into words.
///
/// The order of the variants is that of their gravity: what is listed first has to end before the later ones matter.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// The queue is paused.
    #[non_exhaustive]
    Paused {
        /// Who paused it, when and why. `None` if that was not recorded.
        pause: Option<Pause>,
    },
    /// The task is not due yet.
    #[non_exhaustive]
    NotDue {
        /// When it is due.
        due: Timestamp,
        /// What made it wait until then.
        until: Delay,
    },
    /// The task waits in its group, to be aggregated with others.
    #[non_exhaustive]
    Grouped {
        /// The name of the group. Empty for the group without a name.
        group: Name,
    },
    /// No working server takes from the queue.
    #[non_exhaustive]
    NoServer {
        /// The servers that would, but are lost, quiet or stopping.
        away: Vec<Taker>,
    },
    /// No working server that takes from the queue has a handler for the event.
    #[non_exhaustive]
    NoHandler {
        /// The event.
        event: Name,
        /// How many of its tasks servers have released. `None` if the cause is that of one task.
        tasks: Option<u64>,
    },
    /// All slots of these servers are busy.
    #[non_exhaustive]
    Busy {
        /// The servers.
        servers: Vec<Taker>,
    },
    /// These servers run as many tasks of the queue as its
    /// [limit](crate::server::ServerBuilder::queue_concurrency) allows.
    #[non_exhaustive]
    QueueLimit {
        /// The servers.
        servers: Vec<Taker>,
        /// The tasks that hold the places, longest first; at most [`MAX_HOLDERS`](Self::MAX_HOLDERS).
        holders: Vec<TaskRef>,
    },
    /// A limit of a handler holds tasks back.
    #[non_exhaustive]
    Limit {
        /// The server that applies it.
        server: Name,
        /// The limit.
        limit: LimitInfo,
        /// The tasks that hold the places, longest first; at most [`MAX_HOLDERS`](Self::MAX_HOLDERS). Empty for a rate.
        holders: Vec<TaskRef>,
        /// When the task requests a place again. `None` if the cause is that of a queue.
        due: Option<Timestamp>,
    },
    /// Servers that would take from the queue are lost, quiet or stopping, while others work.
    #[non_exhaustive]
    Away {
        /// The servers.
        servers: Vec<Taker>,
    },
    /// Tasks of the queue are pending.
    #[non_exhaustive]
    Pending {
        /// How many.
        tasks: u64,
        /// How long the next one has waited.
        latency: Duration,
    },
    /// The task is pending, and other tasks of its queue may be ahead of it.
    Turn(Turn),
}

/// What made a task wait until a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delay {
    /// It was enqueued for that time, or snoozed by its handler.
    Scheduled,
    /// It failed, and is retried then.
    Retry,
    /// A limit of its handler. The server that applies it no longer reports it.
    Limit,
}

/// The place of a task in its queue.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Turn {
    /// How many tasks are ahead of it.
    pub ahead: u64,
    /// Whether `ahead` was counted. Otherwise at least that many are ahead.
    pub is_exact: bool,
    /// When it starts, if that can be estimated. The earliest time, if at least `ahead` tasks are ahead.
    pub start: Option<Estimate>,
}

/// When a task starts, if its queue continues at its recent rate.
///
/// It assumes that attempts end as often as in the recent past, and that no tasks of higher priority arrive. Failed
/// attempts count, because a retry takes a turn too.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Estimate {
    /// The estimated time.
    pub at: Timestamp,
    /// How many attempts have ended in the recent past.
    pub ended: u64,
    /// The length of that past: up to two hours.
    pub within: Duration,
}

impl Cause {
    /// The maximum number of tasks that a cause names.
    pub const MAX_HOLDERS: usize = 10;

    /// The kind of the cause, such as `paused` or `queue_limit`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Paused { .. } => "paused",
            Self::NotDue { .. } => "not_due",
            Self::Grouped { .. } => "grouped",
            Self::NoServer { .. } => "no_server",
            Self::NoHandler { .. } => "no_handler",
            Self::Busy { .. } => "busy",
            Self::QueueLimit { .. } => "queue_limit",
            Self::Limit { .. } => "limit",
            Self::Away { .. } => "away",
            Self::Pending { .. } => "pending",
            Self::Turn(_) => "turn",
        }
    }

    /// Whether it ends without a change by a person.
    pub fn passes(&self) -> bool {
        !matches!(
            self,
            Self::Paused { .. } | Self::NoServer { .. } | Self::NoHandler { .. }
        )
    }
}
