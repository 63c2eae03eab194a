//! A number that distinguishes states of the model.

use std::hash::{DefaultHasher, Hash, Hasher};

use asynqueue_core::task::{TaskId, TaskState};

use super::{Entry, Model, Place};
use crate::property::QUEUES;

impl Model {
    /// Equal for states in which every call returns the same and has the same effect, in any order they came
    /// about. It covers neither counters nor progress, and of envelopes what a history changes: payload, attempts and
    /// failures.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        // The order of a list is not part of its content, so the hashes are added up.
        let tasks = self.tasks.iter().map(Entry::digest);
        let locks = self.locks.iter().map(|lock| hash_of(&lock.parts()));
        for sum in [
            tasks.fold(0, u64::wrapping_add),
            locks.fold(0, u64::wrapping_add),
        ] {
            sum.hash(&mut hasher);
        }
        self.paused.hash(&mut hasher);
        for queue in QUEUES {
            self.pending_ids(queue).hash(&mut hasher);
        }
        hasher.finish()
    }

    fn pending_ids(&self, queue: &str) -> Vec<&TaskId> {
        let is_pending = |entry: &&Entry| {
            entry.state() == TaskState::Pending && entry.envelope.queue.as_str() == queue
        };
        let mut pending: Vec<_> = self.tasks.iter().filter(is_pending).collect();
        pending.sort_by_cached_key(|entry| entry.order());
        pending.iter().map(|entry| &entry.envelope.id).collect()
    }
}

impl Entry {
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let envelope = &self.envelope;
        (&envelope.id, &envelope.queue, &envelope.payload).hash(&mut hasher);
        let last = envelope.last_failure().map(|failure| &failure.message);
        (envelope.attempts, envelope.failures().len(), last).hash(&mut hasher);
        self.state().as_str().hash(&mut hasher);
        match &self.place {
            // Its turn shows in the order of the queue.
            Place::Pending { .. } => {}
            Place::Scheduled { due } | Place::Retry { due } => due.hash(&mut hasher),
            Place::Active {
                token,
                until,
                cancel,
                progress: _,
            } => (token, until, cancel).hash(&mut hasher),
            Place::Completed { until, result } => (until, result).hash(&mut hasher),
            Place::Archived { at } => at.hash(&mut hasher),
        }
        hasher.finish()
    }
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
