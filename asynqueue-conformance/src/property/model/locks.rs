//! The holders of the model's unique locks.

use std::sync::Arc;

use asynqueue_core::{
    broker::Conflict,
    task::{Envelope, Name, TaskId, TaskRef, TaskState, Timestamp, UniqueKey, UniqueUntil},
};

use super::Model;

#[derive(Clone)]
pub(super) struct Lock {
    queue: Name,
    key: UniqueKey,
    holder: TaskId,
    until: Timestamp,
}

impl Lock {
    /// What distinguishes it from others.
    pub(super) fn parts(&self) -> (&str, &str, &str, Timestamp) {
        let (queue, key) = (self.queue.as_str(), self.key.as_str());
        (queue, key, self.holder.as_str(), self.until)
    }
}

impl Model {
    pub(super) fn lock(&mut self, envelope: &Envelope) -> Result<(), Conflict> {
        let Some(wanted) = &envelope.unique else {
            return Ok(());
        };
        let (now, queue) = (self.now, &envelope.queue);
        self.locks.retain(|lock| lock.until > now);
        let held = self
            .locks
            .iter()
            .find(|lock| lock.queue == *queue && lock.key == wanted.key);
        if let Some(holder) = held.map(|lock| lock.holder.clone()) {
            let place = self.find(&TaskRef::new(queue, holder.clone()));
            let state = place.map_or(TaskState::Completed, |place| self.tasks[place].state());
            return Err(Conflict::Unique {
                key: wanted.key.clone(),
                holder,
                state,
            });
        }
        let (queue, key, holder) = (queue.clone(), wanted.key.clone(), envelope.id.clone());
        self.locks.push(Lock {
            queue,
            key,
            holder,
            until: now + wanted.ttl,
        });
        Ok(())
    }

    pub(super) fn unlock(&mut self, envelope: &Envelope, at_start: bool) {
        let Some(lock) = &envelope.unique else { return };
        let ends = match lock.until {
            UniqueUntil::Start => true,
            UniqueUntil::Success => !at_start,
            _ => false,
        };
        if ends {
            self.locks.retain(|held| {
                (&held.queue, &held.key, &held.holder) != (&envelope.queue, &lock.key, &envelope.id)
            });
        }
    }

    /// Takes the lock of a task that returns to its queue again, until it starts, if it is free.
    pub(super) fn lock_back(&mut self, envelope: &Envelope) {
        let lock = envelope.unique.as_ref();
        if lock.is_some_and(|lock| lock.until == UniqueUntil::Start) {
            let _ = self.lock(envelope);
        }
    }

    /// Whether another task holds the lock that an archived task needs to run again. If not, the task takes it.
    pub(super) fn locked_out(&mut self, place: usize) -> bool {
        let envelope = Arc::clone(&self.tasks[place].envelope);
        match self.lock(&envelope) {
            Err(Conflict::Unique { holder, .. }) => holder != envelope.id,
            _ => false,
        }
    }
}
