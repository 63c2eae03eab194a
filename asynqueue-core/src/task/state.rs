//! Where a task is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The one state a task is in.
///
/// ```text
/// scheduled ──due──▶ pending ──lease──▶ active ──▶ completed (kept for its retention, then gone)
///                       ▲                 │  ├───▶ retry ──due──▶ pending
///                       └── given back ───┘  └───▶ archived
/// ```
///
/// A task of a group waits as *aggregating*, a task that waits on others as *blocked*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// Waits for the time it was enqueued for.
    Scheduled,
    /// Waits for a worker.
    Pending,
    /// Leased by a worker.
    Active,
    /// Failed; waits for its next attempt.
    Retry,
    /// Finished, and kept for its retention.
    Completed,
    /// Will not run again unless someone asks: out of attempts, skipped, cancelled or unreadable.
    Archived,
    /// Waits for its group to be complete.
    Aggregating,
    /// Waits for other tasks.
    Blocked,
}

impl TaskState {
    /// Every state, in the order of a task's life.
    pub const ALL: [Self; 8] = [
        Self::Scheduled,
        Self::Pending,
        Self::Active,
        Self::Retry,
        Self::Completed,
        Self::Archived,
        Self::Aggregating,
        Self::Blocked,
    ];

    /// The state's name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Retry => "retry",
            Self::Completed => "completed",
            Self::Archived => "archived",
            Self::Aggregating => "aggregating",
            Self::Blocked => "blocked",
        }
    }

    /// Whether a task in this state has come to its end.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Archived)
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
