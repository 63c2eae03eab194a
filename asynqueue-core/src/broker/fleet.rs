//! The servers that work for a broker.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::BrokerError;
use crate::task::{Name, TaskRef, Timestamp};

/// Knows the servers that are at work, as each of them tells.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// Keeps what a server reports of itself, until its next report or until it has been silent for `ttl`. Returns the latest request
    /// that was made of it by [`request_quiet`](Self::request_quiet), again at each beat.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn beat(
        &self,
        server: ServerInfo,
        ttl: Duration,
    ) -> Result<Option<QuietRequest>, BrokerError>;

    /// Asks a server to stop leasing tasks, or to resume it. The request is kept until a later one takes its place or the
    /// server is gone; the server reads it at its next [`beat`](Self::beat). Returns whether the server is known: a request
    /// to one that is not is dropped.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Asking again is safe.
    async fn request_quiet(&self, server: &Name, quiet: bool) -> Result<bool, BrokerError>;

    /// Forgets a server, and what was requested of it.
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

/// What a server is asked to do about leasing tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QuietRequest {
    /// Whether to stop leasing, rather than to resume it.
    pub quiet: bool,
    /// When this was requested, by the broker's clock. No two requests to a server have the same time.
    pub at: Timestamp,
}

impl QuietRequest {
    /// A request that is made at the time `now`, and later than the one `before` it, whatever the clock says.
    #[must_use]
    pub fn after(before: Option<Self>, quiet: bool, now: Timestamp) -> Self {
        let earliest = before.map(|before| before.at + Duration::from_millis(1));
        Self {
            quiet,
            at: earliest.map_or(now, |earliest| now.max(earliest)),
        }
    }
}

/// A server, as it tells of itself every few seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
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
    /// Whether it is [quiet](crate::server::ServerHandle::set_quiet): it leases nothing until it is asked to resume. Servers of
    /// versions that do not know this never are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quiet: bool,
    /// Tasks that it gave back since it has no process for their event, and that are not due again yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unhandled: Vec<UnhandledTasks>,
}

impl ServerInfo {
    /// A server that was started then, and has reported nothing else.
    pub fn new(name: impl Into<Name>, started: Timestamp) -> Self {
        Self {
            name: name.into(),
            host: String::new(),
            pid: 0,
            started,
            seen: started,
            queues: Vec::new(),
            strict: false,
            events: Vec::new(),
            concurrency: 0,
            busy: 0,
            running: Vec::new(),
            abandoned: 0,
            finished: 0,
            stopping: false,
            quiet: false,
            unhandled: Vec::new(),
        }
    }
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
#[non_exhaustive]
pub struct UnhandledTasks {
    /// The queue they are in.
    pub queue: Name,
    /// The event.
    pub event: Name,
    /// How many.
    pub tasks: u64,
}

impl UnhandledTasks {
    /// So many tasks of an event in a queue.
    pub fn new(queue: Name, event: Name, tasks: u64) -> Self {
        Self {
            queue,
            event,
            tasks,
        }
    }
}

/// A task that a server runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
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

impl RunningTask {
    /// An attempt that began at `started` and is given up at `deadline`.
    pub fn new(
        task: TaskRef,
        event: Name,
        attempt: u32,
        started: Timestamp,
        deadline: Timestamp,
    ) -> Self {
        Self {
            task,
            event,
            attempt,
            started,
            deadline,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers of versions before and after it share a broker.
    #[test]
    fn a_server_that_is_not_quiet_writes_what_one_of_an_older_version_does() {
        let mut server = ServerInfo {
            name: "worker-1".into(),
            host: "host".into(),
            pid: 42,
            started: Timestamp::from_millis(1_000),
            seen: Timestamp::from_millis(2_000),
            queues: vec![("default".into(), 1)],
            strict: false,
            events: vec!["email:welcome".into()],
            concurrency: 64,
            busy: 0,
            running: Vec::new(),
            abandoned: 0,
            finished: 0,
            stopping: false,
            quiet: false,
            unhandled: Vec::new(),
        };
        let written = serde_json::to_value(&server).expect("JSON");
        assert_eq!(written.get("quiet"), None, "{written}");
        let read: ServerInfo = serde_json::from_value(written).expect("read");
        assert_eq!(read, server);
        server.quiet = true;
        let written = serde_json::to_value(&server).expect("JSON");
        assert_eq!(written["quiet"], true);
        assert!(
            serde_json::from_value::<ServerInfo>(written)
                .expect("read")
                .quiet
        );
    }

    #[test]
    fn a_request_is_later_than_the_one_before_it_whatever_the_clock_says() {
        let at = Timestamp::from_millis;
        let first = QuietRequest::after(None, true, at(1_000));
        assert_eq!((first.quiet, first.at), (true, at(1_000)));
        let same_time = QuietRequest::after(Some(first), false, at(1_000));
        assert_eq!((same_time.quiet, same_time.at), (false, at(1_001)));
        let later = QuietRequest::after(Some(same_time), true, at(2_000));
        assert_eq!(later.at, at(2_000));
    }
}
