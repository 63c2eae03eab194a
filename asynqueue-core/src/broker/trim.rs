//! The limits of an archive, and how many tasks they have deleted.

use std::time::Duration;

use crate::task::Timestamp;

/// Which archived tasks are kept. The limits apply to all archived tasks, including tasks that never ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keep {
    /// How long a task is kept in the archive. Default 90 days.
    pub archived_for: Duration,
    /// How many archived tasks of a queue are kept, newest first. Default 1,000,000: high enough that an incident loses
    /// nothing, low enough that a forgotten archive does not fill the storage.
    pub archived_max: usize,
}

impl Keep {
    /// Keeps tasks archived within `archived_for`, and at most `archived_max` of each queue.
    pub fn new(archived_for: Duration, archived_max: usize) -> Self {
        Self {
            archived_for,
            archived_max,
        }
    }

    /// Sets [`Keep::archived_max`].
    #[must_use]
    pub fn archived_max(self, max: usize) -> Self {
        Self {
            archived_max: max,
            ..self
        }
    }

    /// Sets [`Keep::archived_for`].
    #[must_use]
    pub fn archived_for(self, time: Duration) -> Self {
        Self {
            archived_for: time,
            ..self
        }
    }
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            archived_for: Duration::from_secs(90 * 24 * 3600),
            archived_max: 1_000_000,
        }
    }
}

/// What [`Broker::trim`](super::Broker::trim) deleted from one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Completed tasks past their retention.
    pub completed: usize,
    /// Archived tasks beyond [`Keep::archived_max`].
    pub by_count: usize,
    /// Archived tasks older than [`Keep::archived_for`].
    pub by_age: usize,
    /// How many archived tasks are left in the queue.
    pub archived: u64,
}

impl Trimmed {
    /// How many tasks were deleted in total.
    pub fn deleted(&self) -> usize {
        self.completed + self.by_count + self.by_age
    }
}

/// What the archive limits of a queue have deleted, on all servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchiveStats {
    /// The [limit by count](Keep::archived_max) of the last trim. `None` if the archive has always been empty or no
    /// server has trimmed it.
    pub max: Option<u64>,
    /// Archived tasks deleted because there were more than [`Keep::archived_max`], in total.
    pub trimmed_by_count: u64,
    /// Archived tasks deleted because they were older than [`Keep::archived_for`], in total.
    pub trimmed_by_age: u64,
    /// When a limit last deleted a task.
    pub last_trimmed: Option<Timestamp>,
}

impl ArchiveStats {
    /// Archived tasks deleted by either limit, in total.
    pub fn trimmed(&self) -> u64 {
        self.trimmed_by_count + self.trimmed_by_age
    }
}

/// Whether an archive of `size` tasks is at 80 % of its limit `max` or above. Never if `max` is 0.
pub(crate) fn is_archive_nearly_full(size: u64, max: u64) -> bool {
    max > 0 && u128::from(size) * 5 >= u128::from(max) * 4
}
