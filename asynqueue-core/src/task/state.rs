//! The states of a task.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a task. A task is in exactly one.
///
/// ```text
/// scheduled ──due──▶ pending ──lease──▶ active ──▶ completed (kept for its retention, then deleted)
///                       ▲                 │  ├───▶ retry ──due──▶ pending
///                       └─── released ────┘  └───▶ archived
/// ```
///
/// A task that waits in a group is *aggregating*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TaskState {
    /// Waits for its scheduled time.
    Scheduled,
    /// Waits for a worker.
    Pending,
    /// Leased by a worker.
    Active,
    /// Failed; waits for its next attempt.
    Retry,
    /// Succeeded; kept for its retention.
    Completed,
    /// Will not run again unless requested: out of attempts, skipped, cancelled or undecodable.
    Archived,
    /// Waits for its group to become one task.
    Aggregating,
    /// A state from a later version. No task of this version has it.
    #[serde(other)]
    Other,
}

impl TaskState {
    /// Every state of this version, in the order that a task passes through them.
    pub const ALL: [Self; 7] = [
        Self::Scheduled,
        Self::Pending,
        Self::Active,
        Self::Retry,
        Self::Completed,
        Self::Archived,
        Self::Aggregating,
    ];

    /// The state's name, in lower case.
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

    /// Whether a task in this state has finished.
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
