//! Looking into a broker.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{ArchiveStats, BrokerError, Version, is_archive_nearly_full};
use crate::{
    process::Progress,
    task::{Attempt, Envelope, Failure, Name, TaskRef, TaskState, Timestamp},
};

/// Reads what a broker keeps, and changes nothing.
#[async_trait]
pub trait Inspect: Send + Sync {
    /// The queues that have had a task, by name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn queues(&self) -> Result<Vec<Name>, BrokerError>;

    /// The figures of queues, in the order given; a queue that is not known is empty.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn stats(&self, queues: &[Name]) -> Result<Vec<QueueStats>, BrokerError>;

    /// How many attempts ended in each hour from the one of `since` on, of each queue in the order given: oldest first, hours
    /// without any left out. They are kept for 90 days.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn history(
        &self,
        queues: &[Name],
        since: Timestamp,
    ) -> Result<Vec<Vec<HourStats>>, BrokerError>;

    /// About how many bytes each queue takes, in the order given; `None` where the storage cannot tell.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn memory(&self, queues: &[Name]) -> Result<Vec<Option<u64>>, BrokerError>;

    /// The servers that the storage consists of.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn nodes(&self) -> Result<Vec<Node>, BrokerError>;

    /// Where a queue is kept, in the storage's own words, such as `slot 1234`. `None` if it is in no place of its own.
    fn place(&self, queue: &Name) -> Option<String>;

    /// Tasks, in the order given; `None` where there is none.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn tasks(&self, tasks: &[TaskRef]) -> Result<Vec<Option<TaskInfo>>, BrokerError>;

    /// The tasks of a queue in one state, a page at a time: waiting ones in the order they will run, finished ones
    /// newest first, aggregating ones by event and group, oldest first.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn list(
        &self,
        queue: &Name,
        state: TaskState,
        page: Page,
    ) -> Result<TaskPage, BrokerError>;
}

/// One queue's figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// How many tasks are in each state; states without one are left out.
    pub counts: BTreeMap<TaskState, u64>,
    /// Attempts that succeeded, ever.
    pub succeeded: u64,
    /// Attempts that failed, ever.
    pub failed: u64,
    /// How long the task that is next has been pending; zero if none is. One that was accepted to run at once is pending
    /// since its `enqueued_at`.
    pub latency: Duration,
    /// Whether leasing is stopped.
    pub paused: bool,
    /// Tasks that were found in no state or missing, and locks and leases without a task, ever: what a broker's storage
    /// lost, and the broker put right.
    pub repaired: u64,
    /// What the limits of its archive have deleted.
    pub archive: ArchiveStats,
}

impl QueueStats {
    /// How many tasks are in a state.
    pub fn count(&self, state: TaskState) -> u64 {
        self.counts.get(&state).copied().unwrap_or_default()
    }

    /// Whether its archive has 80 % of the tasks that it may have, or more.
    pub fn is_archive_nearly_full(&self) -> bool {
        let size = self.count(TaskState::Archived);
        (self.archive.max).is_some_and(|max| is_archive_nearly_full(size, max))
    }

    /// How many tasks the queue keeps in all.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// What came of the attempts of one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HourStats {
    /// When the hour began.
    pub start: Timestamp,
    /// Attempts that succeeded.
    pub succeeded: u64,
    /// Attempts that failed.
    pub failed: u64,
}

impl HourStats {
    /// What ended in the hour that began then.
    pub fn new(start: Timestamp, succeeded: u64, failed: u64) -> Self {
        Self {
            start,
            succeeded,
            failed,
        }
    }
}

impl HourStats {
    /// How many hours are kept: 90 days.
    pub const KEPT: u64 = 90 * 24;
    /// The length of an hour, in milliseconds.
    pub const MILLIS: u64 = 3_600_000;
}

/// One server of the storage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Where it is, such as `10.0.0.7:6379`.
    pub address: String,
    /// What it runs, such as `redis 7.0.15`.
    pub version: String,
    /// Bytes that its data takes, where it can tell.
    pub memory: Option<u64>,
    /// What else it reports of itself, in its own words: its role, which part of the data it keeps, how long it runs, who is
    /// connected, what it has evicted, and more.
    pub info: Vec<(String, String)>,
}

impl Node {
    /// A node that reports no more than what it runs.
    pub fn new(address: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            version: version.into(),
            memory: None,
            info: Vec::new(),
        }
    }
}

impl Node {
    /// One of the things that it reports of itself, by its name.
    pub fn detail(&self, name: &str) -> Option<&str> {
        let mut details = self.info.iter();
        let (_, value) = details.find(|(known, _)| known == name)?;
        Some(value)
    }
}

/// One task as its broker keeps it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TaskInfo {
    /// What travels with it.
    pub envelope: Arc<Envelope>,
    /// Names this state of the task and its envelope: an [edit](super::Store::edit) is made only while it is this one. The progress and
    /// the end of a lease are not part of it.
    pub version: Version,
    /// Where it is.
    pub state: TaskState,
    /// When it is due (scheduled, retry), when it is deleted (completed) or when it was archived.
    pub at: Option<Timestamp>,
    /// Who runs it.
    pub lease: Option<LeaseInfo>,
    /// How far it has come.
    pub progress: Option<Progress>,
    /// Its output, in the payload's codec.
    pub result: Option<Bytes>,
}

impl TaskInfo {
    /// A task in a state, of which no more is known.
    pub fn new(envelope: Arc<Envelope>, state: TaskState, version: Version) -> Self {
        Self {
            envelope,
            version,
            state,
            at: None,
            lease: None,
            progress: None,
            result: None,
        }
    }
}

impl TaskInfo {
    /// The attempts that are known, oldest first: the last [`Failure::KEPT`](crate::task::Failure::KEPT) that failed, and the
    /// one that goes on or succeeded.
    pub fn attempts(&self) -> Vec<Attempt> {
        let failed = self.envelope.failures().iter().cloned();
        let mut attempts: Vec<_> = failed
            .filter(Failure::is_attempt)
            .map(Attempt::from)
            .collect();
        let number = self.envelope.attempts.saturating_add(1);
        if let Some(run) = self.envelope.completed() {
            attempts.push(Attempt {
                number,
                started: Some(run.started),
                ended: Some(run.ended),
                worker: Some(run.worker.clone()),
                failure: None,
            });
        } else if let Some(lease) = &self.lease {
            attempts.push(Attempt {
                number,
                started: None,
                ended: None,
                worker: Some(lease.worker.clone()),
                failure: None,
            });
        }
        attempts
    }
}

/// Who runs a task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseInfo {
    /// The worker.
    pub worker: Name,
    /// When the lease ends unless it is extended.
    pub until: Timestamp,
}

impl LeaseInfo {
    /// A lease of this worker until then.
    pub fn new(worker: Name, until: Timestamp) -> Self {
        Self { worker, until }
    }
}

/// Which part of a list to read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// Where to go on, from the page before; `None` starts.
    pub after: Option<Cursor>,
    /// How many tasks at most. Default 100.
    pub limit: usize,
}

impl Page {
    /// The first `limit` tasks.
    pub fn first(limit: usize) -> Self {
        Self { after: None, limit }
    }

    /// The part behind this place, as the page before names it in [`TaskPage::next`]. `None` starts.
    #[must_use]
    pub fn after(self, after: impl Into<Option<Cursor>>) -> Self {
        Self {
            after: after.into(),
            ..self
        }
    }
}

impl Default for Page {
    fn default() -> Self {
        Self {
            after: None,
            limit: 100,
        }
    }
}

/// A place in a list, in a form of the broker's own. Where the list changes between two pages, tasks can be missed or met
/// twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskInfo>,
    /// Where the next page goes on; `None` at the end.
    pub next: Option<Cursor>,
}

impl TaskPage {
    /// A part of a list, and where the next one begins.
    pub fn new(tasks: Vec<TaskInfo>, next: Option<Cursor>) -> Self {
        Self { tasks, next }
    }
}
