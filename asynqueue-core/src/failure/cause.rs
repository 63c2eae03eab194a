//! What is counted about causes and queues.

use std::collections::BTreeMap;

use super::Fingerprint;
use crate::task::{FailureKind, Name, TaskId, TaskRef, Timestamp};

/// The failures of a span of time, by cause, and the attempts of each queue in it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Failures {
    /// The causes, those of the most failures first.
    pub causes: Vec<Cause>,
    /// The attempts that ended in each queue.
    pub queues: BTreeMap<Name, Ended>,
}

/// The failures of one cause in a span of time.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Cause {
    /// Identifies the cause.
    pub fingerprint: Fingerprint,
    /// The event whose attempts failed.
    pub event: Name,
    /// The kind of the failures.
    pub kind: FailureKind,
    /// Their common message, [normalized](super::normalized).
    pub message: String,
    /// The message of one of them as it was, shortened.
    pub example: String,
    /// The task of this example.
    pub task: Option<TaskRef>,
    /// The failures in each queue.
    pub queues: BTreeMap<Name, Failed>,
    /// The time of the first failure in the span.
    pub first: Timestamp,
    /// The time of the last one, to the minute or the hour.
    pub last: Timestamp,
    /// The failures of each minute or hour that has any, by its start.
    pub series: BTreeMap<Timestamp, u64>,
}

impl Cause {
    /// A cause without failures. The fingerprint is that of the event, the kind and the message.
    pub fn new(event: Name, kind: FailureKind, message: &str) -> Self {
        let normal = super::normalized(message);
        Self {
            fingerprint: Fingerprint::of_normalized(&event, kind, &normal),
            event,
            kind,
            message: normal,
            example: message.to_owned(),
            task: None,
            queues: BTreeMap::new(),
            first: Timestamp::default(),
            last: Timestamp::default(),
            series: BTreeMap::new(),
        }
    }

    /// Adds failures in a queue at a time.
    #[must_use]
    pub fn with(mut self, queue: &Name, failed: Failed, at: Timestamp) -> Self {
        self.add(queue, failed, at, at);
        self
    }

    /// Adds the failures in a queue since `first`, in the minute or hour that starts at `start`.
    pub(crate) fn add(&mut self, queue: &Name, failed: Failed, first: Timestamp, start: Timestamp) {
        let is_first = self.queues.is_empty();
        let of_queue = self.queues.entry(queue.clone()).or_default();
        of_queue.failed += failed.failed;
        of_queue.archived += failed.archived;
        *self.series.entry(start).or_default() += failed.failed;
        self.first = if is_first {
            first
        } else {
            self.first.min(first)
        };
        self.last = self.last.max(first).max(start);
    }

    /// The failures in all queues.
    pub fn failed(&self) -> Failed {
        self.queues
            .values()
            .fold(Failed::default(), |sum, one| Failed {
                failed: sum.failed + one.failed,
                archived: sum.archived + one.archived,
            })
    }

    /// The example as a reference to its task.
    pub fn with_task(mut self, queue: &Name, id: TaskId) -> Self {
        self.task = Some(TaskRef::new(queue.clone(), id));
        self
    }
}

/// Failed attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failed {
    /// How many attempts failed.
    pub failed: u64,
    /// How many of them were the last one of their task, which was archived.
    pub archived: u64,
}

impl Failed {
    /// `failed` attempts, `archived` of which were the last one of their task.
    pub const fn new(failed: u64, archived: u64) -> Self {
        Self { failed, archived }
    }
}

/// The attempts of a queue that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// Attempts that succeeded.
    pub succeeded: u64,
    /// Attempts that failed, without lost attempts.
    pub failed: u64,
    /// Tasks that were archived after a failure.
    pub archived: u64,
    /// Attempts that were lost with their worker: their lease expired.
    pub lost: u64,
}

impl Ended {
    /// Attempts of which `succeeded` succeeded, `failed` failed and `lost` were lost. `archived` tasks were archived.
    pub const fn new(succeeded: u64, failed: u64, archived: u64, lost: u64) -> Self {
        Self {
            succeeded,
            failed,
            archived,
            lost,
        }
    }

    /// All attempts, except the lost ones.
    pub fn all(&self) -> u64 {
        self.succeeded + self.failed
    }
}
