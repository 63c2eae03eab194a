//! Wake-ups, cancellation and other messages between processes.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use std::sync::Arc;

use super::{BrokerError, Lease, Move, TaskInfo};
use crate::{
    codec::CodecName,
    process::Progress,
    task::{Envelope, Failure, Name, TaskRef, Timestamp},
};

/// What happens in a queue, for servers to act on at once. Signals can be lost, as when a connection drops: they save
/// time, and nothing depends on them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signal {
    /// The queue has a pending task that this server may take: it had none before, or this is the server that was chosen.
    Pending(Name),
    /// A task is due at this time, earlier than all others that wait.
    Due(Name, Timestamp),
    /// An active task is said to be cancelled. The answer to [extending its lease](super::Broker::extend) decides.
    Cancel(TaskRef),
}

/// The signals of some queues, from the time of asking on.
pub type Signals = BoxStream<'static, Signal>;

/// Messages to those who run and wait for tasks.
#[async_trait]
pub trait Control: Send + Sync {
    /// The signals of these queues.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn signals(&self, queues: &[Name]) -> Result<Signals, BrokerError>;

    /// Wakes another server for what a server was [woken](Signal::Pending) for that has no room for it. There is nothing to do
    /// for a broker that wakes all servers.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Nothing is lost by that but time.
    async fn pass_on(&self, queue: &Name) -> Result<(), BrokerError>;

    /// Cancels tasks, each final at once if it waits: it is archived with a failure of kind
    /// [`Cancelled`](crate::task::FailureKind::Cancelled) that has `reason`. If it runs, its worker is told, now and at each
    /// extension of its lease.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn cancel(
        &self,
        tasks: &[TaskRef],
        reason: &str,
    ) -> Result<Vec<CancelOutcome>, BrokerError>;

    /// Waits until a task has come to its end; at once if it has already, or is not known.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn finished(&self, task: &TaskRef) -> Result<Finished, BrokerError>;

    /// Keeps the newest progress of active tasks. Leases that are not current any more are passed over.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn report(&self, progress: Vec<(Lease, Progress)>) -> Result<(), BrokerError>;

    /// Stops or resumes leasing from queues; what is leased goes on.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn set_paused(&self, queues: &[Name], paused: bool) -> Result<(), BrokerError>;

    /// Deletes tasks that are not active. Tells for each whether it is gone: not if it is active.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn delete(&self, tasks: &[TaskRef]) -> Result<Vec<bool>, BrokerError>;

    /// Puts new versions of tasks in place of those that were seen, and moves them to another state if asked to, each
    /// only while it still is as it was seen. Tells for each whether it was done: not if it has changed, is active or
    /// completed, or leaves the archive and its unique lock is another's by now. A task that is archived gives its lock
    /// back, and one that leaves the archive takes it again. The times of one that is made pending or scheduled are renewed as
    /// [`run_now`](Self::run_now) does.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn replace(&self, changes: Vec<Replacement>) -> Result<Vec<bool>, BrokerError>;

    /// Deletes a queue with its locks, counters and history: only if it has no tasks, unless `force` is set. With that,
    /// those who wait for a task of it are told that it is gone, and outcomes of tasks that run are refused. Tells whether
    /// it is gone.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Deleting it again is safe.
    async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError>;

    /// Makes scheduled, retry, aggregating and archived tasks pending at once. Tells for each whether it is: not if it is active or
    /// completed, or archived and its unique lock is another's by now; else an archived task takes its lock again.
    ///
    /// The times of a task whose deadline has passed, or which has expired, are [renewed](Envelope::renewed), also if it is
    /// pending: as it is, no worker would start it.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn run_now(&self, tasks: &[TaskRef]) -> Result<Vec<bool>, BrokerError>;

    /// Whether the broker answers.
    ///
    /// # Errors
    ///
    /// When it does not.
    async fn ping(&self) -> Result<(), BrokerError>;

    /// Closes this handle on the broker and its clones: from now on every call fails with [`BrokerError::Closed`], as
    /// do those that [wait](Self::finished) already, and the streams of [signals](Self::signals) end.
    async fn close(&self);
}

/// A new version of a task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Replacement {
    /// The task as it was seen: its [version](TaskInfo::version) decides whether it still is.
    pub seen: TaskInfo,
    /// What takes its place: of the same id, queue, priority, unique lock and group.
    pub envelope: Arc<Envelope>,
    /// Where the task goes; `None` leaves it where it is.
    pub to: Option<Move>,
}

impl Replacement {
    /// Puts an envelope in the place of the task that was seen, and moves it there.
    pub fn new(seen: TaskInfo, envelope: Arc<Envelope>, to: Option<Move>) -> Self {
        Self { seen, envelope, to }
    }
}

/// What cancelling a task has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelOutcome {
    /// It waited, and is archived.
    Cancelled,
    /// It runs; its worker is asked to stop, and it will not be retried.
    Requested,
    /// It had come to its end.
    AlreadyFinished,
    /// There is no such task.
    NotFound,
}

/// How a task came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finished {
    /// It completed, with this encoded output.
    Completed {
        /// None for an output of `()`.
        result: Option<Bytes>,
        /// What the output is encoded with: the same as the payload.
        codec: CodecName,
    },
    /// It was archived, for this reason.
    Archived {
        /// The last of its failures.
        failure: Option<Box<Failure>>,
    },
    /// It is not known: deleted, completed without retention, or never enqueued.
    Gone,
}
