//! One task of the model.

use std::sync::Arc;

use asynqueue_core::{
    broker::{Finished, LeaseInfo, LeaseToken, TaskInfo, Version},
    process::Progress,
    task::{Envelope, TaskId, TaskRef, TaskState, Timestamp},
};
use bytes::Bytes;

use crate::property::WORKER;

/// A task and its place.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) place: Place,
}

/// A state, and the data of a task in it.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Pending {
        turn: i64,
        since: Timestamp,
    },
    Scheduled {
        due: Timestamp,
    },
    Retry {
        due: Timestamp,
    },
    Active {
        token: LeaseToken,
        until: Timestamp,
        cancel: Option<String>,
        progress: Option<Progress>,
    },
    Completed {
        until: Timestamp,
        result: Option<Bytes>,
    },
    Archived {
        at: Timestamp,
    },
}

impl Entry {
    pub(crate) fn state(&self) -> TaskState {
        match self.place {
            Place::Pending { .. } => TaskState::Pending,
            Place::Scheduled { .. } => TaskState::Scheduled,
            Place::Retry { .. } => TaskState::Retry,
            Place::Active { .. } => TaskState::Active,
            Place::Completed { .. } => TaskState::Completed,
            Place::Archived { .. } => TaskState::Archived,
        }
    }

    /// The time that is shown with the task.
    pub(super) fn at(&self) -> Option<Timestamp> {
        match self.place {
            Place::Scheduled { due } | Place::Retry { due } => Some(due),
            Place::Completed { until, .. } => Some(until),
            Place::Archived { at } => Some(at),
            Place::Pending { .. } | Place::Active { .. } => None,
        }
    }

    /// The task as brokers show it.
    pub(crate) fn info(&self) -> TaskInfo {
        let mut info = TaskInfo::new(Arc::clone(&self.envelope), self.state(), Version::default());
        info.at = self.at();
        match &self.place {
            Place::Active {
                until, progress, ..
            } => {
                let (worker, until) = (WORKER.into(), *until);
                info.lease = Some(LeaseInfo::new(worker, until));
                info.progress.clone_from(progress);
            }
            Place::Completed { result, .. } => info.result.clone_from(result),
            Place::Pending { since, .. } => info.since = Some(*since),
            _ => {}
        }
        info
    }

    /// The outcome for a waiter, if the task has ended.
    pub(crate) fn finished(&self) -> Option<Finished> {
        match &self.place {
            Place::Completed { result, .. } => Some(Finished::Completed {
                result: result.clone(),
                codec: self.envelope.codec.clone(),
            }),
            Place::Archived { .. } => Some(Finished::Archived {
                failure: self.envelope.last_failure().cloned().map(Box::new),
            }),
            _ => None,
        }
    }

    pub(crate) fn is(&self, task: &TaskRef) -> bool {
        self.envelope.task_ref() == *task
    }

    pub(crate) fn due(&self) -> Option<Timestamp> {
        match self.place {
            Place::Scheduled { due } | Place::Retry { due } => Some(due),
            _ => None,
        }
    }

    /// The sort key in a list of its state.
    pub(crate) fn order(&self) -> (u8, i64, u64, TaskId) {
        let (turn, at) = match &self.place {
            Place::Pending { turn, .. } => (*turn, Timestamp::default()),
            Place::Active { until, .. } => (0, *until),
            _ => (0, self.at().unwrap_or_default()),
        };
        let priority = if turn == 0 {
            0
        } else {
            u8::MAX - self.envelope.options.priority
        };
        (priority, turn, at.as_millis(), self.envelope.id.clone())
    }
}
