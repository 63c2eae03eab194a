//! Tasks and statistics that come from another store.

use std::sync::Arc;

use super::{
    queue::Queue,
    table::{Place, Record},
};
use crate::{
    broker::{Finished, HourStats, Import, Imported, TaskPlace, Totals},
    task::{Envelope, Name, Timestamp},
};

impl Queue {
    pub(super) fn import(&mut self, import: Import, now: Timestamp) -> Imported {
        let id = &import.envelope.id;
        match (self.tasks.get(id), import.replaces) {
            (None, None) => self.tasks.insert(Record {
                envelope: Arc::clone(&import.envelope),
                place: Place::Pending(now),
            }),
            (Some(_), None) => return Imported::Exists,
            (Some(record), Some(version)) if self.version(record) == version => {
                if matches!(record.place, Place::Active(_) | Place::Completed(_)) {
                    return Imported::Changed;
                }
                self.unlist(id);
                if let Some(record) = self.tasks.get_mut(id) {
                    record.envelope = Arc::clone(&import.envelope);
                }
            }
            _ => return Imported::Changed,
        }
        self.was_used = true;
        if let Some((key, until)) = import.lock(now) {
            self.locks.take_if_free(key, id, now, until);
        }
        let is_replaced = import.replaces.is_some();
        self.put_into(&import.envelope, import.place);
        if is_replaced {
            self.note_end(&import.envelope);
        }
        Imported::Done
    }

    /// Puts a task that is in no list into its place.
    fn put_into(&mut self, envelope: &Arc<Envelope>, place: TaskPlace) {
        match place {
            TaskPlace::Aggregating { since, apart } if envelope.aggregated_in().is_some() => {
                self.join_group(envelope, since, apart);
            }
            TaskPlace::Pending { since } | TaskPlace::Aggregating { since, .. } => {
                self.make_pending(envelope, since);
            }
            TaskPlace::Scheduled { due } => self.schedule(envelope, due),
            TaskPlace::Retry { due } => self.wait_for_retry(envelope, due),
            TaskPlace::Completed { until, result } => self.keep_completed(envelope, result, until),
            TaskPlace::Archived { at } => {
                self.place(&envelope.id, Place::Archived(at));
                self.archived.insert(at, envelope.id.clone());
            }
        }
    }

    /// Releases the lock of a task that has finished, and notifies its waiters.
    fn note_end(&mut self, envelope: &Envelope) {
        let end: Option<Finished> = self.tasks.get(&envelope.id).and_then(Record::end);
        if let Some(end) = end {
            self.locks.release_at_end(envelope);
            self.listeners.notify(&envelope.id, || end.clone());
        }
    }

    pub(super) fn absorb(&mut self, id: &Name, totals: &Totals) -> bool {
        if !self.absorbed.insert(id.clone()) {
            return false;
        }
        self.was_used = true;
        self.succeeded += totals.succeeded;
        self.failed += totals.failed;
        self.lost += totals.lost;
        self.archive.absorb(&totals.archive);
        for hour in totals.hours.iter().filter(|hour| hour.ended() > 0) {
            let number = hour.start.as_millis() / HourStats::MILLIS;
            let start = Timestamp::from_millis(number * HourStats::MILLIS);
            let stats = self.hours.entry(number).or_default();
            stats.start = start;
            stats.add(hour);
        }
        true
    }
}
