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
/// A task of a group waits as *aggregating*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
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
    /// A state that a later version has. No task of this version is in it.
    #[serde(other)]
    Other,
}

impl TaskState {
    /// Every state of this version, in the order of a task's life.
    pub const ALL: [Self; 7] = [
        Self::Scheduled,
        Self::Pending,
        Self::Active,
        Self::Retry,
        Self::Completed,
        Self::Archived,
        Self::Aggregating,
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
            Self::Other => "other",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_a_later_version_is_read_as_other() {
        let read = |json: &str| serde_json::from_str::<TaskState>(json);
        assert_eq!(read("\"paused\"").expect("read"), TaskState::Other);
        for state in TaskState::ALL {
            assert_eq!(read(&format!("\"{state}\"")).expect("read"), state);
        }
        assert!(!TaskState::ALL.contains(&TaskState::Other));
    }
}
