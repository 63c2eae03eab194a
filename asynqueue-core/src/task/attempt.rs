//! The attempts at a task.

use serde::{Deserialize, Serialize};

use super::{Failure, Name, Timestamp};

/// When and by whom a task was run, by an attempt that succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Run {
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// The worker that ran it.
    pub worker: Name,
}

impl Run {
    /// An attempt of `worker` that succeeded.
    pub fn new(started: Timestamp, ended: Timestamp, worker: Name) -> Self {
        Self {
            started,
            ended,
            worker,
        }
    }
}

/// One attempt at a task, as [`TaskInfo::attempts`](crate::broker::TaskInfo::attempts) tells them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Which attempt it was, from 1. Two have the same number if the first did not count.
    pub number: u32,
    /// When it began, where that is known.
    pub started: Option<Timestamp>,
    /// When it ended; `None` if it goes on.
    pub ended: Option<Timestamp>,
    /// The worker that ran it, where that is known.
    pub worker: Option<Name>,
    /// Why it failed; `None` if it succeeded or goes on.
    pub failure: Option<Failure>,
}

impl From<Failure> for Attempt {
    fn from(failure: Failure) -> Self {
        Self {
            number: failure.attempt,
            started: failure.started,
            ended: Some(failure.at),
            worker: failure.worker.clone(),
            failure: Some(failure),
        }
    }
}
