//! Changes of single tasks on request. Each is made only if the task has not changed since it was read.

use std::sync::Arc;

use super::TaskInfo;
use crate::task::{Envelope, TaskRef, Timestamp};

/// A change of a task that was read before.
#[derive(Clone, Debug)]
pub struct Edit {
    /// The task as it was read. The change is made only if the task still has this [version](TaskInfo::version).
    pub seen: TaskInfo,
    /// The change to make.
    pub change: Change,
}

/// How to change a task.
#[derive(Clone, Debug)]
pub enum Change {
    /// Replaces the task's envelope with one that has the same id, queue, priority, unique lock and group, and moves
    /// the task. Refused for active and completed tasks. A task that leaves the archive takes its unique lock again; a
    /// task that is archived releases it.
    Put {
        /// The new envelope. If it is the `Arc` that was read, the task is only moved.
        envelope: Arc<Envelope>,
        /// Where the task goes. `None` keeps its place.
        to: Option<Move>,
    },
    /// Deletes the task. Refused for active tasks.
    Delete,
    /// Requests the cancellation of an active task: its worker is signalled, and each extension of its lease reports
    /// the request. The first reason is kept.
    Cancel {
        /// The reason, which its failure will contain.
        reason: String,
    },
}

/// Where to move a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Pending, behind the other pending tasks.
    Pending,
    /// Scheduled for this time.
    Scheduled(Timestamp),
    /// Into the archive. This ends the task for its waiters.
    Archived,
}

/// The result of an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edited {
    /// The change was made.
    Done,
    /// The task has changed since it was read, or no longer exists.
    Changed,
    /// The task would leave the archive, and another task holds its unique lock.
    Locked,
    /// Tasks in this state cannot be changed this way.
    Refused,
}

impl Edit {
    /// A reference to the task.
    pub fn task_ref(&self) -> TaskRef {
        self.seen.envelope.task_ref()
    }

    /// The envelope to store, if it differs from the stored one.
    pub fn new_envelope(&self) -> Option<&Arc<Envelope>> {
        match &self.change {
            Change::Put { envelope, .. } if !Arc::ptr_eq(envelope, &self.seen.envelope) => {
                Some(envelope)
            }
            _ => None,
        }
    }
}
