//! The servers that work for a broker.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::BrokerError;
use crate::task::{Name, TaskRef, Timestamp};

/// Knows the servers that are at work, as each of them tells.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// Keeps what a server tells of itself, until it tells more or has been silent for `ttl`.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn beat(&self, server: ServerInfo, ttl: Duration) -> Result<(), BrokerError>;

    /// Forgets a server.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn leave(&self, server: &Name) -> Result<(), BrokerError>;

    /// The servers that are at work, and those that were [lost](ServerInfo::is_lost) of late, by name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn servers(&self) -> Result<Vec<ServerInfo>, BrokerError>;
}

/// A server, as it tells of itself every few seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Its name among all.
    pub name: Name,
    /// The machine it runs on.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// When it was started.
    pub started: Timestamp,
    /// When it told this.
    pub seen: Timestamp,
    /// The queues it takes from, with their weights.
    pub queues: Vec<(Name, u32)>,
    /// Whether it takes from a queue only while those of a higher weight are empty.
    pub strict: bool,
    /// The events it has a process for.
    pub events: Vec<Name>,
    /// How many tasks it runs at once at most.
    pub concurrency: usize,
    /// How many tasks it runs.
    pub busy: usize,
    /// What it runs, longest first; [`ServerInfo::MAX_RUNNING`] of them at most.
    pub running: Vec<RunningTask>,
    /// Handlers that go on though their slot was given up.
    pub abandoned: usize,
    /// Attempts that have ended since it was started.
    pub finished: u64,
    /// Whether it leases nothing more, and waits for what runs.
    pub stopping: bool,
    /// Tasks that it gave back since it has no process for their event, and that are not due again yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unhandled: Vec<UnhandledTasks>,
}

impl ServerInfo {
    /// At most this many of the tasks that it runs are reported by a server.
    pub const MAX_RUNNING: usize = 200;

    /// A server that has not reported for this long is lost: each reports every five seconds.
    pub const LOST_AFTER: Duration = Duration::from_secs(15);

    /// Whether it stopped reporting without leaving: it was killed, or is cut off. Others take over what it ran when
    /// its leases end; it is remembered for an hour.
    pub fn is_lost(&self, now: Timestamp) -> bool {
        now.since(self.seen) > Self::LOST_AFTER
    }
}

/// Tasks of an event that a server has no process for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnhandledTasks {
    /// The queue they are in.
    pub queue: Name,
    /// The event.
    pub event: Name,
    /// How many.
    pub tasks: u64,
}

/// A task that a server runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningTask {
    /// The task.
    pub task: TaskRef,
    /// Its event.
    pub event: Name,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// When the attempt began.
    pub started: Timestamp,
    /// When it is given up.
    pub deadline: Timestamp,
}
