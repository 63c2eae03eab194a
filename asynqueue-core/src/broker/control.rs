//! Wake-ups, cancellation and other messages between processes.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use std::sync::Arc;

use super::{BrokerError, Lease, Move, Pausable, Pause, Point, TaskInfo};
use crate::{
    codec::CodecName,
    process::Progress,
    task::{Envelope, Failure, Name, TaskRef, Timestamp},
};

/// An event in a queue that servers react to immediately. Signals can be lost, for example when a connection drops:
/// they save time, and nothing depends on them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signal {
    /// The queue has a pending task that this server may lease: either the queue was empty before, or the broker chose
    /// this server.
    Pending(Name),
    /// A task is due at this time, earlier than all other waiting tasks.
    Due(Name, Timestamp),
    /// Cancellation of an active task may have been requested. The result of [extending its
    /// lease](super::Broker::extend) decides.
    Cancel(TaskRef),
}

/// The signals of some queues, from the call on.
pub type Signals = BoxStream<'static, Signal>;

/// Messages to the programs that run tasks or wait for them, and changes of tasks and queues.
#[async_trait]
pub trait Control: Send + Sync {
    /// The signals of these queues, from now on.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn signals(&self, queues: &[Name]) -> Result<Signals, BrokerError>;

    /// Wakes another server for a task that this server was [woken](Signal::Pending) for but has no free worker to run.
    /// Does nothing in a broker that wakes all servers.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. The task is then only leased later.
    async fn pass_on(&self, queue: &Name) -> Result<(), BrokerError>;

    /// Cancels tasks. A waiting task is archived immediately, with a failure of kind
    /// [`Cancelled`](crate::task::FailureKind::Cancelled) that contains `reason`. The worker of an active task is
    /// notified now and at each extension of the lease.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn cancel(
        &self,
        tasks: &[TaskRef],
        reason: &str,
    ) -> Result<Vec<CancelOutcome>, BrokerError>;

    /// Waits until a task has finished. Returns immediately if it already has, or if it is not known.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn finished(&self, task: &TaskRef) -> Result<Finished, BrokerError>;

    /// Stores the newest progress of active tasks. Leases that are no longer current are skipped.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn report(&self, progress: Vec<(Lease, Progress)>) -> Result<(), BrokerError>;

    /// Adds figures over time, at most [`Point::MAX_CALL`](super::Point::MAX_CALL) points. Each point is added in one
    /// step to the one with its series, time, group and key.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Each point may or may not have been added.
    async fn add_points(&self, points: Vec<Point>) -> Result<(), BrokerError>;

    /// Pauses or resumes leasing from queues. Active tasks continue.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn set_paused(&self, queues: &[Name], paused: bool) -> Result<(), BrokerError>;

    /// Records who paused queues or schedule entries, when and why. It replaces an earlier record. Resuming or deleting
    /// a queue or an entry removes its record.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn record_pauses(&self, of: &[Pausable], pause: &Pause) -> Result<(), BrokerError>;

    /// Deletes tasks that are not active. The result for each is `true` if the task no longer exists, and `false` if it
    /// is active.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn delete(&self, tasks: &[TaskRef]) -> Result<Vec<bool>, BrokerError>;

    /// Replaces tasks with new versions and, if requested, moves them to another state; each only if the task has not
    /// changed since it was read. The result for each is `false` if the task has changed, is active or completed, or
    /// would leave the archive while another task holds its unique lock. A task that is archived releases its lock; a
    /// task that leaves the archive takes it again. The times of a task that becomes pending or scheduled are renewed
    /// as by [`run_now`](Self::run_now).
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn replace(&self, changes: Vec<Replacement>) -> Result<Vec<bool>, BrokerError>;

    /// Deletes a queue with its locks, counters and history: only if it has no tasks, unless `force` is set. With
    /// `force`, waiters for its tasks receive [`Finished::Gone`], and outcomes of its running tasks are refused.
    /// Returns whether the queue no longer exists.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Deleting it again is safe.
    async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError>;

    /// Makes scheduled, retry, aggregating and archived tasks pending immediately. The result for each is `false` if
    /// the task is active or completed, or archived while another task holds its unique lock. An archived task takes
    /// its lock again.
    ///
    /// The times of a task whose deadline has passed, or which has expired, are [renewed](Envelope::renewed), even if
    /// it is already pending: no worker would start it otherwise.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn run_now(&self, tasks: &[TaskRef]) -> Result<Vec<bool>, BrokerError>;

    /// Checks that the broker responds.
    ///
    /// # Errors
    ///
    /// When it does not respond.
    async fn ping(&self) -> Result<(), BrokerError>;

    /// Closes this broker handle and its clones: every later call and every pending [wait](Self::finished) fails with
    /// [`BrokerError::Closed`], and the streams of [signals](Self::signals) end.
    async fn close(&self);
}

/// A new version of a task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Replacement {
    /// The task as it was read. It is replaced only if it still has this [version](TaskInfo::version).
    pub seen: TaskInfo,
    /// The new envelope, with the same id, queue, priority, unique lock and group.
    pub envelope: Arc<Envelope>,
    /// Where the task goes. `None` keeps its place.
    pub to: Option<Move>,
}

impl Replacement {
    /// Replaces the envelope of the task `seen`, and moves the task to `to`.
    pub fn new(seen: TaskInfo, envelope: Arc<Envelope>, to: Option<Move>) -> Self {
        Self { seen, envelope, to }
    }
}

/// The result of a request to cancel a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelOutcome {
    /// The task was waiting and is archived now.
    Cancelled,
    /// The task is active: its worker was signalled to stop, and it will not be retried.
    Requested,
    /// The task had already finished.
    AlreadyFinished,
    /// The task does not exist.
    NotFound,
}

/// How a task finished.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finished {
    /// The task completed.
    Completed {
        /// The encoded output. `None` for an output of `()`.
        result: Option<Bytes>,
        /// The codec of the output, which is that of the payload.
        codec: CodecName,
    },
    /// The task was archived.
    Archived {
        /// Why it was archived: the last of its failures.
        failure: Option<Box<Failure>>,
    },
    /// The task is not stored: it was deleted, completed without retention, or never enqueued.
    Gone,
}
