//! The limits of an archive, and what they have deleted.

use std::time::Duration;

use crate::task::Timestamp;

/// Which archived tasks are kept. The limits count all archived tasks alike, also those that never ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keep {
    /// Those archived within this time. Default 90 days.
    pub archived_for: Duration,
    /// At most this many of a queue, the newest. Default 1,000,000: far above a bad day, so an incident loses nothing, and low
    /// enough that a forgotten archive does not fill the storage.
    pub archived_max: usize,
}

impl Keep {
    /// Those archived within this time, and at most so many of a queue.
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

/// What [`Broker::trim`](super::Broker::trim) has deleted of one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Completed tasks whose retention was over.
    pub completed: usize,
    /// Archived tasks beyond [`Keep::archived_max`].
    pub by_count: usize,
    /// Archived tasks older than [`Keep::archived_for`].
    pub by_age: usize,
    /// How many archived tasks are left.
    pub archived: u64,
}

impl Trimmed {
    /// How many tasks were deleted in all.
    pub fn deleted(&self) -> usize {
        self.completed + self.by_count + self.by_age
    }
}

/// What the limits of a queue's archive have done to it, on all servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchiveStats {
    /// The [limit by count](Keep::archived_max) that it was last trimmed by. `None` if it has been empty so far, or no server
    /// has trimmed it.
    pub max: Option<u64>,
    /// Archived tasks that were deleted because there were more than [`Keep::archived_max`], ever.
    pub trimmed_by_count: u64,
    /// Archived tasks that were deleted because they were older than [`Keep::archived_for`], ever.
    pub trimmed_by_age: u64,
    /// When one was last deleted for either reason.
    pub last_trimmed: Option<Timestamp>,
}

impl ArchiveStats {
    /// Archived tasks that were deleted for either reason, ever.
    pub fn trimmed(&self) -> u64 {
        self.trimmed_by_count + self.trimmed_by_age
    }
}

/// Whether an archive of `size` tasks is near its limit of `max`: 80 % of it or more. Never, if none are to be kept.
pub(crate) fn is_archive_nearly_full(size: u64, max: u64) -> bool {
    max > 0 && u128::from(size) * 5 >= u128::from(max) * 4
}
