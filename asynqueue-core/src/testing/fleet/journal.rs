//! What happens in a simulated fleet, in order.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Strike;
use crate::{
    ambient::node,
    broker::{Aggregation, Conflict, Edit, Edited, LeaseToken, NewTask, Outcome, Settled},
    sync::Mutex,
    task::{Failure, Name, TaskRef, Timestamp},
};

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// When, after the start.
    pub at: Duration,
    /// The store's time.
    pub now: Timestamp,
    /// The node that did it or that it happened to, by its place in the fleet.
    pub node: Option<usize>,
    /// What it was.
    pub event: Event,
}

/// What can happen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A node has started.
    Started {
        /// Its life, from 0.
        life: usize,
        /// The build that it runs.
        build: usize,
    },
    /// A node was killed.
    Killed,
    /// A node is asked to stop.
    Stopping,
    /// A node has stopped by itself.
    Stopped,
    /// A fault begins.
    Begins(Strike),
    /// A fault ends.
    Ends(Strike),
    /// All faults are over, and all nodes are up.
    Calm,
    /// A call of this method met with a fault.
    Struck(&'static str, &'static str),
    /// The store was asked to accept a task.
    Enqueued(Box<NewTask>, Result<(), Conflict>),
    /// The store has leased a task.
    Leased(Taken),
    /// The store was asked to record the outcome of a lease.
    Settled(Box<Ending>),
    /// The store was asked to change a task.
    Edited(Box<Edit>, Edited),
    /// The store was asked to put one task in place of the members of a group.
    Aggregated(Box<Aggregation>, Result<bool, Conflict>),
    /// A queue was paused or resumed.
    Paused(Name, bool),
    /// A queue was deleted.
    QueueDeleted(Name),
    /// The store has trimmed tasks of queues.
    Trimmed(usize),
    /// A handler has started an attempt.
    Began(TaskRef, u32),
    /// A handler's attempt has ended so.
    Done(TaskRef, u32, Done),
    /// A server has shut down, and took this long.
    ShutDown(Duration),
    /// Something that must not happen has.
    Problem(String),
    /// A program noted this.
    Note(String),
}

/// A lease.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Taken {
    /// The task.
    pub task: TaskRef,
    /// The lease.
    pub token: LeaseToken,
    /// Which attempt it is for, from 1.
    pub attempt: u32,
    /// How long it lasts unless it is extended.
    pub lease: Duration,
}

/// The end of a lease.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ending {
    /// The task.
    pub task: TaskRef,
    /// The lease.
    pub token: LeaseToken,
    /// The outcome that was to be recorded.
    pub outcome: Outcome,
    /// The failure that goes with it.
    pub failure: Option<Failure>,
    /// Whether a server other than the one which leased it has reclaimed it.
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

/// Takes notes. Clones share them.
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

    /// Notes what the node does that runs now.
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
            Self::Stopping => f.write_str("is asked to stop"),
            Self::Stopped => f.write_str("has stopped"),
            Self::Begins(strike) => write!(f, "begins: {strike:?}"),
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
            Self::Began(task, attempt) => write!(f, "begin {task} attempt {attempt}"),
            Self::Done(task, attempt, how) => write!(f, "end {task} attempt {attempt}: {how:?}"),
            Self::ShutDown(took) => write!(f, "has shut down in {took:?}"),
            Self::Problem(problem) => write!(f, "problem: {problem}"),
            Self::Note(note) => f.write_str(note),
        }
    }
}
