//! Inspecting a broker.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Apart, ArchiveStats, BrokerError, Pausable, Pause, Point, PointQuery, Version,
    is_archive_nearly_full,
};
use crate::{
    process::Progress,
    task::{Attempt, Envelope, Failure, Name, TaskRef, TaskState, Timestamp},
};

/// Reads what a broker stores, and changes nothing.
#[async_trait]
pub trait Inspect: Send + Sync {
    /// The queues that have ever had a task, by name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn queues(&self) -> Result<Vec<Name>, BrokerError>;

    /// The figures of queues, in the order given. An unknown queue has the figures of an empty one.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn stats(&self, queues: &[Name]) -> Result<Vec<QueueStats>, BrokerError>;

    /// The [records](super::Control::record_pauses) of pauses, in the order given. `None` if there is none: it is not
    /// paused, or the program that paused it recorded nothing.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn pauses(&self, of: &[Pausable]) -> Result<Vec<Option<Pause>>, BrokerError>;

    /// How many attempts ended in each hour since that of `since`, for each queue in the order given. Oldest first;
    /// hours without attempts are left out. Hours are kept for 90 days.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn history(
        &self,
        queues: &[Name],
        since: Timestamp,
    ) -> Result<Vec<Vec<HourStats>>, BrokerError>;

    /// Figures over time, by time, group and key. Points that are older than [kept](super::Series::kept) are left out.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn points(&self, query: &PointQuery) -> Result<Vec<Point>, BrokerError>;

    /// The approximate memory of each queue in bytes, in the order given. `None` if the storage does not report it.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn memory(&self, queues: &[Name]) -> Result<Vec<Option<u64>>, BrokerError>;

    /// The servers of the storage, such as the nodes of a Redis Cluster.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn nodes(&self) -> Result<Vec<Node>, BrokerError>;

    /// Where a queue is stored, in the storage's terms, such as `slot 1234`. `None` if queues have no separate place.
    fn place(&self, queue: &Name) -> Option<String>;

    /// Tasks, in the order given. `None` for a task that does not exist.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn tasks(&self, tasks: &[TaskRef]) -> Result<Vec<Option<TaskInfo>>, BrokerError>;

    /// One page of the tasks of a queue in one state: waiting tasks in the order they will run, finished tasks newest
    /// first, aggregating tasks by event and group, oldest first. [`Page::last`] starts at the other end.
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

/// The figures of one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// How many tasks are in each state. States without tasks are left out.
    pub counts: BTreeMap<TaskState, u64>,
    /// Attempts that succeeded, in total.
    pub succeeded: u64,
    /// Attempts that failed, in total. Lost attempts are not among them.
    pub failed: u64,
    /// Attempts that were [lost with their server](super::Settlement::only_if_expired), in total.
    pub lost: u64,
    /// How long the next task to run has been pending. Zero if none is. A task that was enqueued to run immediately is
    /// pending since its `enqueued_at`.
    pub latency: Duration,
    /// Whether the queue is paused: no tasks are leased from it.
    pub paused: bool,
    /// Inconsistencies that the broker found in its storage and repaired, in total: tasks that were missing or in no
    /// state, and locks and leases without a task.
    pub repaired: u64,
    /// How many tasks the archive limits have deleted.
    pub archive: ArchiveStats,
}

impl QueueStats {
    /// How many tasks are in a state.
    pub fn count(&self, state: TaskState) -> u64 {
        self.counts.get(&state).copied().unwrap_or_default()
    }

    /// Whether the archive is at 80 % of its limit or above.
    pub fn is_archive_nearly_full(&self) -> bool {
        let size = self.count(TaskState::Archived);
        (self.archive.max).is_some_and(|max| is_archive_nearly_full(size, max))
    }

    /// How many tasks the queue has in all states.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// The attempts of one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HourStats {
    /// When the hour started.
    pub start: Timestamp,
    /// Attempts that succeeded.
    pub succeeded: u64,
    /// Attempts that failed. Lost attempts are not among them.
    pub failed: u64,
    /// Attempts that were [lost with their server](super::Settlement::only_if_expired).
    pub lost: u64,
}

impl HourStats {
    /// The attempts of the hour that started at `start`. None was lost.
    pub fn new(start: Timestamp, succeeded: u64, failed: u64) -> Self {
        Self {
            start,
            succeeded,
            failed,
            lost: 0,
        }
    }

    /// Sets how many attempts were lost.
    #[must_use]
    pub fn with_lost(self, lost: u64) -> Self {
        Self { lost, ..self }
    }

    /// How many attempts ended: they succeeded, failed or were lost.
    pub fn ended(&self) -> u64 {
        (self.succeeded.saturating_add(self.failed)).saturating_add(self.lost)
    }

    /// Adds the attempts of another hour.
    pub fn add(&mut self, other: &Self) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.lost += other.lost;
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
    /// Its address, such as `10.0.0.7:6379`.
    pub address: String,
    /// Its software, such as `redis 7.0.15`.
    pub version: String,
    /// The size of its data in bytes, if it reports it.
    pub memory: Option<u64>,
    /// What else it reports, in its own terms: its role, its part of the data, its uptime, its clients, its evictions
    /// and more.
    pub info: Vec<(String, String)>,
}

impl Node {
    /// A node that reports only its version.
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
    /// One of the reported [details](Self::info), by its name.
    pub fn detail(&self, name: &str) -> Option<&str> {
        let mut details = self.info.iter();
        let (_, value) = details.find(|(known, _)| known == name)?;
        Some(value)
    }
}

/// A task as its broker stores it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TaskInfo {
    /// The task's payload and options.
    pub envelope: Arc<Envelope>,
    /// Identifies this state of the task and its envelope: an [edit](super::Store::edit) is made only if the task still
    /// has it. Changes of the progress and the end of the lease do not count.
    pub version: Version,
    /// The task's state.
    pub state: TaskState,
    /// When it is due (scheduled, retry), when it will be deleted (completed) or when it was archived. `None` in other
    /// states.
    pub at: Option<Timestamp>,
    /// Since when it has been pending, or has waited in its group. `None` in other states.
    pub since: Option<Timestamp>,
    /// The part of its group that it waits in, if it was [set apart](super::Groups::set_apart).
    pub apart: Option<Apart>,
    /// The worker that runs it, if it is active.
    pub lease: Option<LeaseInfo>,
    /// The last progress that its handler reported.
    pub progress: Option<Progress>,
    /// Its output, encoded with the payload's codec.
    pub result: Option<Bytes>,
}

impl TaskInfo {
    /// A task in a state, without further information.
    pub fn new(envelope: Arc<Envelope>, state: TaskState, version: Version) -> Self {
        Self {
            envelope,
            version,
            state,
            at: None,
            since: None,
            apart: None,
            lease: None,
            progress: None,
            result: None,
        }
    }
}

impl TaskInfo {
    /// The known attempts, oldest first: the last [`Failure::KEPT`](crate::task::Failure::KEPT) failed ones, and the
    /// one that is running or succeeded.
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

/// Which worker runs a task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseInfo {
    /// The worker's name.
    pub worker: Name,
    /// When the lease expires unless it is extended.
    pub until: Timestamp,
}

impl LeaseInfo {
    /// A lease of `worker` that expires at `until`.
    pub fn new(worker: Name, until: Timestamp) -> Self {
        Self { worker, until }
    }
}

/// Which page of a list to read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// Where the page starts, from [`TaskPage::next`] of the page before. `None` for the first page.
    pub after: Option<Cursor>,
    /// How many tasks to return at most. Default 100.
    pub limit: usize,
    /// Whether the list is read from its end. The pages of one list all have the same direction. Default no.
    pub reversed: bool,
}

impl Page {
    /// The first `limit` tasks.
    pub fn first(limit: usize) -> Self {
        Self {
            after: None,
            limit,
            reversed: false,
        }
    }

    /// The last `limit` tasks, last first: of waiting tasks those that run last, of finished tasks the oldest. It costs
    /// as much as the first page, however long the list is. Tasks that become pending between two pages, up to
    /// 10,000, are on neither.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), asynqueue_core::broker::BrokerError> {
    /// use asynqueue_core::{
    ///     broker::{Inspect, Page},
    ///     memory::MemoryBroker,
    ///     task::TaskState,
    /// };
    ///
    /// let broker = MemoryBroker::new();
    /// let newest = broker.list(&"mail".into(), TaskState::Pending, Page::last(50)).await?;
    /// let before = Page::last(50).after(newest.next);
    /// # let _ = before; Ok(()) }
    /// ```
    pub fn last(limit: usize) -> Self {
        Self {
            reversed: true,
            ..Self::first(limit)
        }
    }

    /// Starts at the place that [`TaskPage::next`] of the page before returned. `None` for the first page.
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
        Self::first(100)
    }
}

/// A place in a list, in the broker's format, for pages of the same direction. If the list changes between two pages,
/// tasks can be missed or returned twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TaskPage {
    /// The tasks of the page.
    pub tasks: Vec<TaskInfo>,
    /// Where the next page starts. `None` at the end.
    pub next: Option<Cursor>,
}

impl TaskPage {
    /// A page of a list, and where the next one starts.
    pub fn new(tasks: Vec<TaskInfo>, next: Option<Cursor>) -> Self {
        Self { tasks, next }
    }
}
