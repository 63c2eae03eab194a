//! Changes of single tasks, and of a queue, on request.

use std::sync::Arc;

use super::{queue::Queue, table::Place};
use crate::{
    broker::{Change, Edit, Edited, Finished, Move, Signal},
    task::{Envelope, Timestamp},
};

impl Queue {
    pub(super) fn edit(&mut self, edit: &Edit, now: Timestamp) -> Edited {
        let id = &edit.seen.envelope.id;
        let seen = self.tasks.get(id);
        let Some(record) = seen.filter(|record| self.version(record) == edit.seen.version) else {
            return Edited::Changed;
        };
        match (&edit.change, &record.place) {
            (Change::Cancel { reason }, Place::Active(_)) => {
                if let Some(Place::Active(activity)) =
                    self.tasks.get_mut(id).map(|record| &mut record.place)
                {
                    activity.cancel.get_or_insert_with(|| reason.clone());
                }
                self.listeners.signal(&Signal::Cancel(edit.task_ref()));
                Edited::Done
            }
            (Change::Cancel { .. }, _) | (_, Place::Active(_)) => Edited::Refused,
            (Change::Delete, _) => {
                let envelope = Arc::clone(&record.envelope);
                self.unlist(id);
                self.forget(&envelope);
                Edited::Done
            }
            (Change::Put { .. }, Place::Completed(_)) => Edited::Refused,
            (Change::Put { envelope, to }, place) => {
                let leaves_archive = matches!(place, Place::Archived(_))
                    && !matches!(to, Some(Move::Archived) | None);
                // It released its lock when it was archived.
                if leaves_archive && !self.lock_again(envelope, now) {
                    return Edited::Locked;
                }
                self.put(envelope, *to, now);
                Edited::Done
            }
        }
    }

    /// Replaces a task's envelope, and moves the task if requested.
    fn put(&mut self, envelope: &Arc<Envelope>, to: Option<Move>, now: Timestamp) {
        if to.is_some() {
            self.unlist(&envelope.id);
        }
        if let Some(record) = self.tasks.get_mut(&envelope.id) {
            record.envelope = Arc::clone(envelope);
        }
        match to {
            None => {}
            Some(Move::Pending) => self.make_pending(envelope, now),
            Some(Move::Scheduled(at)) if at <= now => self.make_pending(envelope, now),
            Some(Move::Scheduled(at)) => self.schedule(envelope, at),
            Some(Move::Archived) => self.archive(envelope, now),
        }
    }

    /// Removes everything, if there are no tasks or `force` is set. Listeners are kept.
    pub(super) fn clear(&mut self, force: bool) -> bool {
        if self.tasks.len() > 0 && !force {
            return false;
        }
        let mut listeners = std::mem::take(&mut self.listeners);
        for record in self.tasks.iter() {
            listeners.notify(&record.envelope.id, || Finished::Gone);
        }
        *self = Self {
            listeners,
            // So that no old lease is taken for a later one.
            last_token: self.last_token,
            ..Self::new(self.name.clone())
        };
        true
    }

    pub(super) fn set_paused(&mut self, paused: bool) {
        let resumed = self.paused && !paused;
        self.paused = paused;
        self.signal_pending(resumed && self.pending.len() > 0);
    }
}
