//! The attempts of a task.

use serde::{Deserialize, Serialize};

use super::{Failure, Name, Timestamp};

/// The attempt that succeeded: when it ran and on which worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Run {
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// The worker that ran it.
    pub worker: Name,
}

impl Run {
    /// A successful attempt on `worker`.
    pub fn new(started: Timestamp, ended: Timestamp, worker: Name) -> Self {
        Self {
            started,
            ended,
            worker,
        }
    }
}

/// One attempt of a task, as [`TaskInfo::attempts`](crate::broker::TaskInfo::attempts) returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// The number of the attempt, from 1. Two attempts have the same number if the first did not count.
    pub number: u32,
    /// When it started, if known.
    pub started: Option<Timestamp>,
    /// When it ended. `None` while it is running.
    pub ended: Option<Timestamp>,
    /// The worker that ran it, if known.
    pub worker: Option<Name>,
    /// Why it failed. `None` if it succeeded or is running.
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
