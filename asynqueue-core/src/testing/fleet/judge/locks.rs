//! Unique keys that are held until a task succeeds.

use super::*;
use crate::task::UniqueUntil;

impl Judge {
    pub(super) fn lock(&mut self, entry: &Entry, task: &NewTask) {
        let envelope = &task.envelope;
        let Some(lock) = envelope.unique.as_deref() else {
            return;
        };
        if lock.until != UniqueUntil::Success {
            return;
        }
        let id = envelope.task_ref();
        let key = (id.queue.clone(), lock.key.as_str().to_owned());
        self.freed.remove(&key);
        let holder = self.keys.insert(key, id.clone());
        let holds = holder.as_ref().and_then(|holder| self.stories.get(holder));
        let holds = holds.is_some_and(|story| {
            // A lock also ends with its ttl, by the store's clock, which may have been set.
            let age = entry.at - story.accepted;
            !story.may_be_gone() && !story.is_edited && age < lock.ttl
        });
        if holds && !self.troubles.clock_was_set(entry.at) {
            let what = format!("{id} was accepted while {holder:?} holds its key");
            self.broken(Promise::Unique, entry, what);
        }
    }

    pub(super) fn unlock(&mut self, id: &TaskRef, ending: &Ending) {
        if !matches!(
            ending.outcome,
            Outcome::Retry { .. } | Outcome::Snooze { .. } | Outcome::Release
        ) {
            self.keys.retain(|key, holder| {
                let is_freed = holder == id;
                if is_freed {
                    self.freed.insert(key.clone(), holder.clone());
                }
                !is_freed
            });
        }
    }

    /// A conflict must be with a task that holds the key, not with one that has finished.
    pub(super) fn refused(&mut self, entry: &Entry, task: &NewTask, conflict: &Conflict) {
        let Conflict::Unique { key, holder, .. } = conflict else {
            return;
        };
        let key = (task.envelope.queue.clone(), key.as_str().to_owned());
        if self.freed.get(&key).is_some_and(|last| last.id == *holder) {
            let id = task.envelope.task_ref();
            let what =
                format!("{id} was refused because of a key that {holder} held until it finished");
            self.broken(Promise::Unique, entry, what);
        }
    }
}
