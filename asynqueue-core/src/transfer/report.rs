//! What a move has done, and what it has left.

use std::{collections::BTreeMap, fmt};

use crate::task::{Name, TaskRef, Timestamp};

/// What a move has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// How many tasks were moved from each queue.
    pub queues: BTreeMap<Name, u64>,
    /// How many schedule entries were moved.
    pub schedules: u64,
    /// How many subscribers the target did not have before. They stay at the source too.
    pub subscribers: u64,
    /// What is still at the source.
    pub left: Vec<Left>,
}

impl Report {
    /// How many tasks were moved.
    pub fn tasks(&self) -> u64 {
        self.queues.values().sum()
    }

    /// Whether nothing is left at the source.
    pub fn is_complete(&self) -> bool {
        self.left.is_empty()
    }
}

/// Something that a move has left at the source. Its text names the reason and the fix.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Left {
    /// The target has another task with this id.
    Taken(TaskRef),
    /// The task was written by a later version.
    Unreadable(TaskRef),
    /// The task is active, its lease has expired, and no server has reclaimed it.
    Active {
        /// The task.
        task: TaskRef,
        /// The worker that leased it.
        worker: Name,
        /// When its lease expired.
        until: Timestamp,
    },
    /// The target has another schedule entry of this name.
    Entry(Name),
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken(task) => write!(
                f,
                "task {task}: the target has another task with this id: delete one of the two"
            ),
            Self::Unreadable(task) => write!(
                f,
                "task {task}: its envelope is undecodable: move it with the later version that has written it"
            ),
            Self::Active { task, worker, .. } => write!(
                f,
                "task {task}: its lease by worker `{worker}` has expired and no server has reclaimed it: start a server \
                 at the source"
            ),
            Self::Entry(name) => write!(
                f,
                "schedule entry `{name}`: the target has another entry of this name: remove one of the two"
            ),
        }
    }
}

/// What a move would find.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Survey {
    /// How many tasks each queue has at the source, by name.
    pub queues: BTreeMap<Name, u64>,
    /// How many of them are active.
    pub active: u64,
    /// How many schedule entries there are.
    pub schedules: u64,
    /// How many subscribers there are.
    pub subscribers: u64,
}

impl Survey {
    /// How many tasks there are.
    pub fn tasks(&self) -> u64 {
        self.queues.values().sum()
    }
}
