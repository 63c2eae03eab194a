//! What holds tasks of a server back, as the server reports it: the limits of its queues and handlers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::task::{Name, Timestamp};

/// How many tasks of a queue a server holds, and how many it may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueueUse {
    /// The queue.
    pub queue: Name,
    /// Its leased and unfinished tasks on the server.
    pub running: u64,
    /// The [limit](crate::server::ServerBuilder::queue_concurrency) of these. `None` if only the concurrency of the
    /// server limits them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
}

impl QueueUse {
    /// `running` tasks of a queue without a limit.
    pub fn new(queue: impl Into<Name>, running: u64) -> Self {
        Self {
            queue: queue.into(),
            running,
            max: None,
        }
    }

    /// Sets the limit.
    #[must_use]
    pub fn with_max(mut self, max: u64) -> Self {
        self.max = Some(max);
        self
    }

    /// Whether the limit allows no more tasks.
    pub fn is_full(&self) -> bool {
        self.max.is_some_and(|max| self.running >= max)
    }
}

/// What a limit of handlers counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LimitKind {
    /// [Concurrent attempts](crate::layer::ConcurrencyLimitLayer).
    Concurrency,
    /// [Attempts that start in a period](crate::layer::RateLimitLayer).
    Rate,
    /// A limit that only a later version knows.
    #[serde(other)]
    Other,
}

/// A limit of one or several handlers of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LimitInfo {
    /// What it counts.
    pub kind: LimitKind,
    /// The events of the handlers that it limits together.
    pub events: Vec<Name>,
    /// How many attempts it allows: concurrently, or in each period.
    pub max: u64,
    /// The period of a rate limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Duration>,
    /// How many of them are used.
    pub used: u64,
    /// About how many tasks wait for it.
    #[serde(default)]
    pub waiting: u64,
    /// The queues of these tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<Name>,
    /// When the next attempt may start. `None` if that depends on when a running attempt ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
}

impl LimitInfo {
    /// An unused limit of `max` concurrent attempts of these events.
    pub fn new(kind: LimitKind, events: Vec<Name>, max: u64) -> Self {
        Self {
            kind,
            events,
            max,
            period: None,
            used: 0,
            waiting: 0,
            queues: Vec::new(),
            next: None,
        }
    }
}
