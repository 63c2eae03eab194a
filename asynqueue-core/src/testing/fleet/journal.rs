//! The events of a simulated fleet, in order.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Strike;
use crate::{
    ambient::node,
    broker::{Aggregation, Conflict, Edit, Edited, LeaseToken, NewTask, Outcome, Settled},
    sync::Mutex,
    task::{Failure, Name, TaskRef, Timestamp},
};

/// An event with its time and node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// When it happened, after the start.
    pub at: Duration,
    /// The store's time.
    pub now: Timestamp,
    /// The node that did it or that it happened to, by its index in the fleet.
    pub node: Option<usize>,
    /// What happened.
    pub event: Event,
}

/// An event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A node started.
    Started {
        /// The number of its life, from 0.
        life: usize,
        /// The build that it runs.
        build: usize,
    },
    /// A node was killed.
    Killed,
    /// A node was requested to stop.
    Stopping,
    /// A node stopped by itself.
    Stopped,
    /// A fault started.
    Begins(Strike),
    /// A fault ended.
    Ends(Strike),
    /// All faults have ended, and all nodes are running.
    Calm,
    /// A call of this method was affected by a fault.
    Struck(&'static str, &'static str),
    /// The store was requested to accept a task.
    Enqueued(Box<NewTask>, Result<(), Conflict>),
    /// The store leased a task.
    Leased(Taken),
    /// The store was requested to record the outcome of a lease.
    Settled(Box<Ending>),
    /// The store was requested to change a task.
    Edited(Box<Edit>, Edited),
    /// The store was requested to replace the members of a group with one task.
    Aggregated(Box<Aggregation>, Result<bool, Conflict>),
    /// A queue was paused or resumed.
    Paused(Name, bool),
    /// A queue was deleted.
    QueueDeleted(Name),
    /// The store deleted this many tasks that are no longer kept.
    Trimmed(usize),
    /// A handler started an attempt.
    Began(TaskRef, u32),
    /// A handler's attempt ended.
    Done(TaskRef, u32, Done),
    /// A server shut down, in this time.
    ShutDown(Duration),
    /// Something happened that must not happen.
    Problem(String),
    /// A note of a program.
    Note(String),
}

/// A lease.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Taken {
    /// The task that was leased.
    pub task: TaskRef,
    /// The token of the lease.
    pub token: LeaseToken,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// How long the lease lasts unless it is extended.
    pub lease: Duration,
}

/// The end of a lease.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ending {
    /// The task that was leased.
    pub task: TaskRef,
    /// The token of the lease.
    pub token: LeaseToken,
    /// The outcome to record.
    pub outcome: Outcome,
    /// The failure of the attempt, if it failed.
    pub failure: Option<Failure>,
    /// Whether a server other than the one that leased the task has reclaimed it.
    pub is_reclaim: bool,
    /// Whether it was recorded.
    pub settled: Settled,
}

/// How a handler's attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Done {
    /// With a result.
    Ok,
    /// With an error or a panic.
    Failed,
    /// It was dropped at an `await`.
    Dropped,
}

/// Records events. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    start: Instant,
    entries: Arc<Mutex<Vec<Entry>>>,
    now: Arc<dyn crate::task::Clock>,
}

impl Journal {
    pub(super) fn new(now: Arc<dyn crate::task::Clock>) -> Self {
        Self {
            start: Instant::now(),
            entries: Arc::default(),
            now,
        }
    }

    /// Records an event of the node that is running now.
    pub(super) fn note(&self, event: Event) {
        self.note_of(node::current(), event);
    }

    pub(super) fn note_of(&self, node: Option<usize>, event: Event) {
        let entry = Entry {
            at: self.start.elapsed(),
            now: self.now.now(),
            node,
            event,
        };
        self.entries.lock().push(entry);
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.entries.lock())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12.6} ", self.at.as_secs_f64())?;
        match self.node {
            Some(node) => write!(f, "{node:>2} ")?,
            None => f.write_str(" - ")?,
        }
        write!(f, "{}", self.event)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { life, build } => write!(f, "starts, life {life}, build {build}"),
            Self::Killed => f.write_str("is killed"),
            Self::Stopping => f.write_str("is requested to stop"),
            Self::Stopped => f.write_str("has stopped"),
            Self::Begins(strike) => write!(f, "starts: {strike:?}"),
            Self::Ends(strike) => write!(f, "ends: {strike:?}"),
            Self::Calm => f.write_str("calm"),
            Self::Struck(method, fault) => write!(f, "{method}: {fault}"),
            Self::Enqueued(task, answer) => {
                let envelope = &task.envelope;
                let (id, event) = (envelope.task_ref(), &envelope.event);
                write!(f, "enqueue {id} {event} {:?}", task.when)?;
                match answer {
                    Ok(()) => f.write_str(": accepted"),
                    Err(conflict) => write!(f, ": {conflict}"),
                }
            }
            Self::Leased(taken) => {
                let Taken {
                    task,
                    token,
                    attempt,
                    lease,
                } = taken;
                let token = token.0;
                write!(
                    f,
                    "lease {task} attempt {attempt} token {token:x} for {lease:?}"
                )
            }
            Self::Settled(ending) => {
                let (token, outcome) = (ending.token.0, &ending.outcome);
                write!(f, "settle {} token {token:x} {outcome:?}", ending.task)?;
                if let Some(failure) = &ending.failure {
                    write!(f, " ({:?}: {})", failure.kind, failure.message)?;
                }
                write!(f, ": {:?}", ending.settled)
            }
            Self::Edited(edit, edited) => {
                let change = match &edit.change {
                    crate::broker::Change::Put { to, .. } => format!("put {to:?}"),
                    crate::broker::Change::Delete => "delete".to_owned(),
                    crate::broker::Change::Cancel { .. } => "cancel".to_owned(),
                };
                let seen = edit.seen.state;
                write!(
                    f,
                    "edit {} seen {seen} {change}: {edited:?}",
                    edit.task_ref()
                )
            }
            Self::Aggregated(aggregation, answer) => {
                let members = aggregation.group.members.len();
                let task = aggregation.task.envelope.task_ref();
                write!(f, "aggregate {members} into {task}: {answer:?}")
            }
            Self::Paused(queue, true) => write!(f, "pause {queue}"),
            Self::Paused(queue, false) => write!(f, "resume {queue}"),
            Self::QueueDeleted(queue) => write!(f, "delete queue {queue}"),
            Self::Trimmed(count) => write!(f, "trim {count}"),
            Self::Began(task, attempt) => write!(f, "start {task} attempt {attempt}"),
            Self::Done(task, attempt, how) => write!(f, "end {task} attempt {attempt}: {how:?}"),
            Self::ShutDown(took) => write!(f, "has shut down in {took:?}"),
            Self::Problem(problem) => write!(f, "problem: {problem}"),
            Self::Note(note) => f.write_str(note),
        }
    }
}
