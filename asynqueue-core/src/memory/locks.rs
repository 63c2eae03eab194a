//! Unique locks and who holds them.

use std::collections::HashMap;

use crate::task::{Envelope, TaskId, Timestamp, UniqueKey, UniqueUntil};

/// The locks of a queue. One whose time is up counts for nothing, whether or not it is still here.
#[derive(Debug, Default)]
pub(super) struct Locks(HashMap<UniqueKey, Held>);

#[derive(Debug)]
struct Held {
    holder: TaskId,
    until: Timestamp,
}

/// Who holds a lock that another asks for.
pub(super) struct Holder {
    pub(super) key: UniqueKey,
    pub(super) id: TaskId,
}

impl Locks {
    /// Takes the lock that a task asks for, if it asks for one.
    pub(super) fn take(&mut self, task: &Envelope, now: Timestamp) -> Result<(), Holder> {
        let Some(lock) = &task.unique else {
            return Ok(());
        };
        if let Some(held) = self.0.get(&lock.key).filter(|held| held.until > now) {
            return Err(Holder {
                key: lock.key.clone(),
                id: held.holder.clone(),
            });
        }
        let held = Held {
            holder: task.id.clone(),
            until: now + lock.ttl,
        };
        self.0.insert(lock.key.clone(), held);
        Ok(())
    }

    /// Takes the lock again that ended with the start of a task which comes back without having failed. If another holds it by
    /// now, the task waits without it.
    pub(super) fn take_back(&mut self, task: &Envelope, now: Timestamp) {
        let lock = task.unique.as_ref();
        if lock.is_some_and(|lock| lock.until == UniqueUntil::Start) {
            // The task that holds it keeps it.
            let _ = self.take(task, now);
        }
    }

    /// Releases what a task holds until its start.
    pub(super) fn release_at_start(&mut self, task: &Envelope) {
        self.release(task, |until| until == UniqueUntil::Start);
    }

    /// Releases what a task holds until its end.
    pub(super) fn release_at_end(&mut self, task: &Envelope) {
        self.release(task, |until| until != UniqueUntil::Window);
    }

    fn release(&mut self, task: &Envelope, ends: impl Fn(UniqueUntil) -> bool) {
        let Some(lock) = task.unique.as_ref().filter(|lock| ends(lock.until)) else {
            return;
        };
        // It may have passed to another by now.
        if self
            .0
            .get(&lock.key)
            .is_some_and(|held| held.holder == task.id)
        {
            self.0.remove(&lock.key);
        }
    }

    pub(super) fn forget_ended(&mut self, now: Timestamp) {
        self.0.retain(|_, held| held.until > now);
    }
}
