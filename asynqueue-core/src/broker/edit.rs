//! Changes of single tasks that are asked for: each is made only while the task still is as it was seen.

use std::sync::Arc;

use super::TaskInfo;
use crate::task::{Envelope, TaskRef, Timestamp};

/// A change of a task that was looked up.
#[derive(Clone, Debug)]
pub struct Edit {
    /// The task as it was seen. Only one of this [version](TaskInfo::version) is changed.
    pub seen: TaskInfo,
    /// What to do.
    pub change: Change,
}

/// What to do with a task.
#[derive(Clone, Debug)]
pub enum Change {
    /// Puts an envelope of the same id, queue, priority, unique lock and group in the task's place, and moves it. Of a task that is neither
    /// active nor completed. One that leaves the archive takes its unique lock again, and one that is archived gives it back.
    Put {
        /// The envelope. Where it is the very one that was seen, only the move is made.
        envelope: Arc<Envelope>,
        /// Where the task goes. `None` leaves it in its place.
        to: Option<Move>,
    },
    /// Deletes the task, which is not active.
    Delete,
    /// Requests the cancellation of an active task: its worker is signalled, and the answer to each extension of its lease says so. The first
    /// reason counts.
    Cancel {
        /// Why.
        reason: String,
    },
}

/// Where a task is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Behind those that are pending.
    Pending,
    /// It waits until then.
    Scheduled(Timestamp),
    /// Into the archive, which ends it for its waiters.
    Archived,
}

/// The outcome of an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edited {
    /// It was made.
    Done,
    /// The task has changed since it was seen, or is gone.
    Changed,
    /// The task would leave the archive, and its unique lock is another's.
    Locked,
    /// It cannot be made to a task in that state.
    Refused,
}

impl Edit {
    /// Points at the task.
    pub fn task_ref(&self) -> TaskRef {
        self.seen.envelope.task_ref()
    }

    /// The envelope to keep in place of the one that is there, if it is another.
    pub fn new_envelope(&self) -> Option<&Arc<Envelope>> {
        match &self.change {
            Change::Put { envelope, .. } if !Arc::ptr_eq(envelope, &self.seen.envelope) => {
                Some(envelope)
            }
            _ => None,
        }
    }
}
