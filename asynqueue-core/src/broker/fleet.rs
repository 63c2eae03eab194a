//! The servers that work for a broker.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{BrokerError, LimitInfo, OutboxAction, OutboxInfo, OutboxRequest, QueueUse};
use crate::task::{Name, TaskRef, Timestamp};

/// Stores what each running server reports.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// Stores what a server reports about itself until its next report, or until it has been silent for `ttl`. Returns
    /// the latest [request](Self::request_quiet) to this server, again at each beat.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn beat(
        &self,
        server: ServerInfo,
        ttl: Duration,
    ) -> Result<Option<QuietRequest>, BrokerError>;

    /// Requests that a server stop leasing tasks, or resume. The request is kept until a later one replaces it or the
    /// server leaves. The server reads it at its next [`beat`](Self::beat). Returns whether the server is known; a
    /// request to an unknown server is dropped.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Requesting again is safe.
    async fn request_quiet(&self, server: &Name, quiet: bool) -> Result<bool, BrokerError>;

    /// Removes a server and the request to it.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn leave(&self, server: &Name) -> Result<(), BrokerError>;

    /// The running servers, and servers [lost](ServerInfo::is_lost) within the last hour, by name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn servers(&self) -> Result<Vec<ServerInfo>, BrokerError>;

    /// Stores what the relay of an outbox reports until its next report, or until there has been none for `ttl`.
    /// Returns what was [requested](Self::request_outbox) of the relay since its last report. A request is returned
    /// again until the relay reports with the [time](OutboxInfo::served) of the request.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn report_outbox(
        &self,
        outbox: OutboxInfo,
        ttl: Duration,
    ) -> Result<Option<OutboxRequest>, BrokerError>;

    /// Requests that the relay of an outbox retry or delete failed entries, in addition to what was requested before.
    /// It follows with its next report. Returns whether the outbox is known.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Requesting again is safe.
    async fn request_outbox(
        &self,
        outbox: &Name,
        actions: Vec<OutboxAction>,
    ) -> Result<bool, BrokerError>;

    /// The outboxes whose relay has reported within the last week, by id.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn outboxes(&self) -> Result<Vec<OutboxInfo>, BrokerError>;
}

/// A request to a server to stop leasing tasks, or to resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QuietRequest {
    /// `true` to stop leasing, `false` to resume.
    pub quiet: bool,
    /// When it was requested, by the broker's clock. No two requests to a server have the same time.
    pub at: Timestamp,
}

impl QuietRequest {
    /// A request made at the time `now`. Its time is later than that of the request `before`, even if the clock
    /// moved backwards.
    #[must_use]
    pub fn after(before: Option<Self>, quiet: bool, now: Timestamp) -> Self {
        let earliest = before.map(|before| before.at + Duration::from_millis(1));
        Self {
            quiet,
            at: earliest.map_or(now, |earliest| now.max(earliest)),
        }
    }
}

/// What a server reports about itself every five seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServerInfo {
    /// The server's name, unique in the fleet.
    pub name: Name,
    /// The host name of the machine it runs on.
    pub host: String,
    /// The id of its operating system process.
    pub pid: u32,
    /// When it started.
    pub started: Timestamp,
    /// When it sent this report, by the broker's clock.
    pub seen: Timestamp,
    /// The queues it leases from, with their weights.
    pub queues: Vec<(Name, u32)>,
    /// Whether it leases from a queue only while all queues of a higher weight are empty.
    pub strict: bool,
    /// The events it has a handler for.
    pub events: Vec<Name>,
    /// How many tasks it runs concurrently at most.
    pub concurrency: usize,
    /// How many tasks it is running.
    pub busy: usize,
    /// The tasks it is running, longest first; at most [`ServerInfo::MAX_RUNNING`] of them.
    pub running: Vec<RunningTask>,
    /// Handlers that are still running although their worker slot was freed: they did not stop in time.
    pub abandoned: usize,
    /// Attempts that have ended since it started.
    pub finished: u64,
    /// Whether it is shutting down: it leases no more tasks and waits for the running ones.
    pub stopping: bool,
    /// Whether it is [quiet](crate::server::ServerHandle::set_quiet): it leases no tasks until it is resumed. Always
    /// `false` for servers of versions without this feature.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quiet: bool,
    /// Tasks that it released because it has no handler for their event, and that are not due again yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unhandled: Vec<UnhandledTasks>,
    /// The [version](crate::server::ServerBuilder::version) of its program. `None` if it reports none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How many tasks of its queues it holds: of each queue that has tasks there or a limit. Empty for servers of
    /// versions that do not report it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queue_use: Vec<QueueUse>,
    /// The limits of its handlers. Empty for servers of versions that do not report them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitInfo>,
}

impl ServerInfo {
    /// A server that started at `started` and has reported nothing else.
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
            version: None,
            queue_use: Vec::new(),
            limits: Vec::new(),
        }
    }
}

impl ServerInfo {
    /// A server reports at most this many of its running tasks.
    pub const MAX_RUNNING: usize = 200;

    /// A server that has not reported for this long is lost. Servers report every five seconds.
    pub const LOST_AFTER: Duration = Duration::from_secs(15);

    /// Whether it stopped reporting without leaving: it was killed, or cannot reach the broker. Other servers reclaim
    /// its tasks when their leases expire. It is listed for an hour.
    pub fn is_lost(&self, now: Timestamp) -> bool {
        now.since(self.seen) > Self::LOST_AFTER
    }
}

/// Tasks of an event that a server has no handler for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UnhandledTasks {
    /// The queue that contains the tasks.
    pub queue: Name,
    /// The event without a handler.
    pub event: Name,
    /// How many tasks of the event are waiting.
    pub tasks: u64,
}

impl UnhandledTasks {
    /// `tasks` tasks of an event in a queue.
    pub fn new(queue: Name, event: Name, tasks: u64) -> Self {
        Self {
            queue,
            event,
            tasks,
        }
    }
}

/// A task that a server is running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunningTask {
    /// The task's queue and id.
    pub task: TaskRef,
    /// The task's event.
    pub event: Name,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// When the attempt started.
    pub started: Timestamp,
    /// When the attempt times out.
    pub deadline: Timestamp,
}

impl RunningTask {
    /// An attempt that started at `started` and times out at `deadline`.
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
    use super::{super::LimitKind, *};

    /// Servers of earlier and later versions share a broker.
    #[test]
    fn a_server_that_is_not_quiet_writes_the_same_report_as_an_older_version() {
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
            version: None,
            queue_use: Vec::new(),
            limits: Vec::new(),
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

    /// A limit of a later kind must not hide the server.
    #[test]
    fn the_report_of_a_later_version_is_readable() {
        let mut server = ServerInfo::new("worker-1", Timestamp::from_millis(1_000));
        let events = vec!["video".into()];
        server.limits = vec![LimitInfo::new(LimitKind::Rate, events, 5)];
        server.queue_use = vec![QueueUse::new("video", 3).with_max(4)];
        server.version = Some("1.2.0".into());
        let bytes = rmp_serde::to_vec_named(&server).expect("MessagePack");
        let read: ServerInfo = rmp_serde::from_slice(&bytes).expect("read");
        assert_eq!(read, server);
        let mut written = serde_json::to_value(&server).expect("JSON");
        written["limits"][0]["kind"] = "by_tenant".into();
        written["limits"][0]["tenants"] = 7.into();
        let read: ServerInfo = serde_json::from_value(written).expect("read");
        assert_eq!(read.limits[0].kind, LimitKind::Other);
    }

    #[test]
    fn a_request_is_later_than_the_previous_one_even_if_the_clock_moved_backwards() {
        let at = Timestamp::from_millis;
        let first = QuietRequest::after(None, true, at(1_000));
        assert_eq!((first.quiet, first.at), (true, at(1_000)));
        let same_time = QuietRequest::after(Some(first), false, at(1_000));
        assert_eq!((same_time.quiet, same_time.at), (false, at(1_001)));
        let later = QuietRequest::after(Some(same_time), true, at(2_000));
        assert_eq!(later.at, at(2_000));
    }
}
