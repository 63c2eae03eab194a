//! Tasks and statistics that come from another store: each task arrives in exactly the state that it left.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{ArchiveStats, HourStats, Part, QueueStats, TaskInfo, Version};
use crate::task::{Envelope, TaskRef, TaskState, Timestamp, UniqueKey, UniqueUntil};

/// A task to put into a store in exactly one state.
#[derive(Clone, Debug, PartialEq)]
pub struct Import {
    /// The task, with its id, queue, attempts and failures.
    pub envelope: Arc<Envelope>,
    /// The state that the task arrives in, with the times of that state.
    pub place: TaskPlace,
    /// The version of the stored task that this one replaces. That task has the same id, queue, priority, unique lock
    /// and group, and is neither active nor completed. `None`: the id is free.
    pub replaces: Option<Version>,
}

/// The state of a task that is not active, with what only this state has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskPlace {
    /// Pending, behind the other pending tasks of its priority.
    Pending {
        /// Since when.
        since: Timestamp,
    },
    /// Scheduled.
    Scheduled {
        /// When it is due.
        due: Timestamp,
    },
    /// Waiting for a retry.
    Retry {
        /// When it is due.
        due: Timestamp,
    },
    /// Waiting in its group.
    Aggregating {
        /// Since when.
        since: Timestamp,
        /// Set if it was [set apart](super::Groups::set_apart).
        apart: Option<Apart>,
    },
    /// Completed.
    Completed {
        /// When it will be deleted.
        until: Timestamp,
        /// The encoded output. `None` for an output of `()`.
        result: Option<Bytes>,
    },
    /// Archived.
    Archived {
        /// Since when.
        at: Timestamp,
    },
}

/// The part of a group that a member waits in after it was [set apart](super::Groups::set_apart).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apart {
    /// The part.
    pub part: Part,
    /// How long after its oldest member joined the part is due.
    pub delay: Duration,
}

/// The result of an [`Import`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// The task is stored in its state.
    Done,
    /// Nothing was changed: a task with this id exists, and none was to be replaced.
    Exists,
    /// Nothing was changed: the task to be replaced has changed, no longer exists, or is active or completed.
    Changed,
}

/// The statistics of a queue that no state of a task contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Attempts that succeeded.
    pub succeeded: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Attempts that were lost with their server.
    pub lost: u64,
    /// What the archive limits have deleted.
    pub archive: ArchiveStats,
    /// The attempts of each hour, oldest first.
    pub hours: Vec<HourStats>,
}

impl Import {
    /// A new task.
    pub fn new(envelope: Arc<Envelope>, place: TaskPlace) -> Self {
        Self {
            envelope,
            place,
            replaces: None,
        }
    }

    /// Replaces a stored task that has this version.
    #[must_use]
    pub fn replacing(self, version: Version) -> Self {
        Self {
            replaces: Some(version),
            ..self
        }
    }

    /// A reference to the task.
    pub fn task_ref(&self) -> TaskRef {
        self.envelope.task_ref()
    }

    /// The unique lock that the task takes unless a task holds it already, and when the lock ends at the latest. `now`
    /// is the store's time. `None`: it takes no lock.
    ///
    /// A window lasts as long as it did where the task was enqueued, even if the task has finished. A finished task
    /// has released every other lock, and a task that waits for a retry one until its start.
    pub fn lock(&self, now: Timestamp) -> Option<(&UniqueKey, Timestamp)> {
        let lock = self.envelope.unique.as_deref()?;
        let ends = match lock.until {
            UniqueUntil::Window => self.envelope.enqueued_at + lock.ttl,
            _ if self.place.state().is_final() => return None,
            UniqueUntil::Start if self.place.state() == TaskState::Retry => return None,
            UniqueUntil::Start | UniqueUntil::Success => now + lock.ttl,
        };
        (ends > now).then_some((&lock.key, ends))
    }
}

impl TaskPlace {
    /// The state.
    pub fn state(&self) -> TaskState {
        match self {
            Self::Pending { .. } => TaskState::Pending,
            Self::Scheduled { .. } => TaskState::Scheduled,
            Self::Retry { .. } => TaskState::Retry,
            Self::Aggregating { .. } => TaskState::Aggregating,
            Self::Completed { .. } => TaskState::Completed,
            Self::Archived { .. } => TaskState::Archived,
        }
    }
}

impl TaskInfo {
    /// The task's state with what only this state has, to [import](super::Store::import) the task elsewhere. `None` for
    /// an active task, and for a state of a later version.
    pub fn place(&self) -> Option<TaskPlace> {
        let since = || self.since.unwrap_or(self.envelope.enqueued_at);
        Some(match (self.state, self.at) {
            (TaskState::Pending, _) => TaskPlace::Pending { since: since() },
            (TaskState::Scheduled, Some(due)) => TaskPlace::Scheduled { due },
            (TaskState::Retry, Some(due)) => TaskPlace::Retry { due },
            (TaskState::Aggregating, _) => TaskPlace::Aggregating {
                since: since(),
                apart: self.apart.clone(),
            },
            (TaskState::Completed, Some(until)) => TaskPlace::Completed {
                until,
                result: self.result.clone(),
            },
            (TaskState::Archived, Some(at)) => TaskPlace::Archived { at },
            _ => return None,
        })
    }
}

impl Totals {
    /// The statistics of a queue with these figures and attempts by hour.
    pub fn new(stats: &QueueStats, hours: Vec<HourStats>) -> Self {
        Self {
            succeeded: stats.succeeded,
            failed: stats.failed,
            lost: stats.lost,
            archive: stats.archive,
            hours,
        }
    }

    /// Whether there is nothing to count.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl ArchiveStats {
    /// Adds what the limits have deleted elsewhere. The limit itself is kept, if it is known here.
    pub fn absorb(&mut self, other: &Self) {
        self.max = self.max.or(other.max);
        self.trimmed_by_count += other.trimmed_by_count;
        self.trimmed_by_age += other.trimmed_by_age;
        self.last_trimmed = self.last_trimmed.max(other.last_trimmed);
    }
}
