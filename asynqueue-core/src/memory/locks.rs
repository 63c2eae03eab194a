//! Unique locks and their holders.

use std::collections::HashMap;

use crate::task::{Envelope, TaskId, Timestamp, UniqueKey, UniqueUntil};

/// The locks of a queue. A lock whose ttl has passed has no effect, even if it is still stored.
#[derive(Debug, Default)]
pub(super) struct Locks(HashMap<UniqueKey, Held>);

#[derive(Debug)]
struct Held {
    holder: TaskId,
    until: Timestamp,
}

/// The holder of a requested lock.
pub(super) struct Holder {
    pub(super) key: UniqueKey,
    pub(super) id: TaskId,
}

impl Locks {
    /// Takes the lock of a task, if it is unique.
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

    /// Takes a lock until a time, unless a task holds it.
    pub(super) fn take_if_free(
        &mut self,
        key: &UniqueKey,
        holder: &TaskId,
        now: Timestamp,
        until: Timestamp,
    ) {
        if self.0.get(key).is_none_or(|held| held.until <= now) {
            let holder = holder.clone();
            self.0.insert(key.clone(), Held { holder, until });
        }
    }

    /// Takes the lock of a released or snoozed task again, which it released at its start. If another task holds the
    /// lock, the task waits without it.
    pub(super) fn retake(&mut self, task: &Envelope, now: Timestamp) {
        let lock = task.unique.as_ref();
        if lock.is_some_and(|lock| lock.until == UniqueUntil::Start) {
            // If another task holds it, it keeps it.
            let _ = self.take(task, now);
        }
    }

    /// Releases a lock that is held until the task's start.
    pub(super) fn release_at_start(&mut self, task: &Envelope) {
        self.release(task, |until| until == UniqueUntil::Start);
    }

    /// Releases a lock that is held until the task's end.
    pub(super) fn release_at_end(&mut self, task: &Envelope) {
        self.release(task, |until| until != UniqueUntil::Window);
    }

    fn release(&mut self, task: &Envelope, ends: impl Fn(UniqueUntil) -> bool) {
        let Some(lock) = task.unique.as_ref().filter(|lock| ends(lock.until)) else {
            return;
        };
        // Another task may hold it already.
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
