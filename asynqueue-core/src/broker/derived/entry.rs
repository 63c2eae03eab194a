//! A schedule entry as a document.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    declared, pauses,
    records::{Record, as_read, decode, encode},
};
use crate::{
    ambient,
    broker::{
        BrokerError, Document, DocumentSwap, Expect, MissedTicks, Put, ScheduleEntry, Space,
        TickGuard,
    },
    task::{Envelope, Name, TaskId, Timestamp},
};

/// An entry as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    rule: String,
    pub(super) next: Option<Timestamp>,
    paused: bool,
    pub(super) queue: Name,
    id: TaskId,
    task: Bytes,
    #[serde(default)]
    missed: MissedTicks,
    /// In milliseconds.
    #[serde(default)]
    jitter: u64,
    #[serde(default)]
    source: String,
    /// Differs from that of an earlier entry of the same name, and changes with the queue, so that ticks of one do not
    /// block ticks of the other.
    #[serde(default)]
    generation: u64,
}

impl Stored {
    fn of(entry: &ScheduleEntry, generation: u64) -> Self {
        Self {
            rule: entry.rule.clone(),
            next: entry.next,
            paused: entry.paused,
            queue: entry.template.queue.clone(),
            id: entry.template.id.clone(),
            task: entry.template.to_bytes().into(),
            missed: entry.missed,
            jitter: entry.jitter.as_millis().try_into().unwrap_or(u64::MAX),
            source: entry.source.clone(),
            generation,
        }
    }

    /// When a scheduler must handle the entry. `None` if it is paused or has no more ticks.
    fn due(&self) -> Option<Timestamp> {
        self.next.filter(|_| !self.paused)
    }
}

/// An entry's document as it was read.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) stored: Record<Stored>,
    expect: Expect,
}

impl Kept {
    pub(super) fn read(name: &Name, document: &Document) -> Result<Self, BrokerError> {
        Ok(Self {
            stored: decode(&document.bytes, of(name))?,
            expect: as_read(Some(document)),
        })
    }

    /// The entry that the document contains.
    pub(super) fn entry(&self, name: &Name) -> Result<ScheduleEntry, BrokerError> {
        let stored = &self.stored.known;
        let (queue, id) = (stored.queue.clone(), stored.id.clone());
        let template = Envelope::from_bytes(queue, id, &stored.task);
        let unreadable = |error| {
            let what = of(name);
            BrokerError::protocol(format!("{what} is undecodable: {error}")).caused_by(error)
        };
        Ok(ScheduleEntry {
            name: name.clone(),
            rule: stored.rule.clone(),
            template: template.map_err(unreadable)?,
            next: stored.next,
            paused: stored.paused,
            missed: stored.missed,
            jitter: Duration::from_millis(stored.jitter),
            source: stored.source.clone(),
        })
    }

    /// Replaces the entry with `new`, and keeps fields written by later versions.
    pub(super) fn replaced_by(&self, new: &ScheduleEntry) -> Result<DocumentSwap, BrokerError> {
        let old = &self.stored.known;
        let generation = match old.queue == new.template.queue {
            true => old.generation,
            false => ambient::random(),
        };
        let new_one = self.stored.with(Stored::of(new, generation));
        put(&new.name, self.expect, &new_one)
    }

    /// The same entry with another next tick.
    pub(super) fn advanced(
        &self,
        name: &Name,
        next: Option<Timestamp>,
    ) -> Result<DocumentSwap, BrokerError> {
        let mut moved = self.stored.clone();
        moved.known.next = next;
        put(name, self.expect, &moved)
    }

    /// The next tick to fire. `None` if the entry is paused.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.stored.known.due()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.stored.known.paused
    }

    /// The guard under which the queue remembers the last tick.
    pub(super) fn guard(&self, name: &Name) -> Name {
        format!("{name}\n{:x}", self.stored.known.generation).into()
    }

    /// Whether it is a later state of the same entry as `other`.
    pub(super) fn continues(&self, other: &Self) -> bool {
        self.stored.known.generation == other.stored.known.generation
    }
}

/// Adds an entry that does not exist yet.
pub(super) fn added(entry: &ScheduleEntry) -> Result<DocumentSwap, BrokerError> {
    let new_one = Record::new(Stored::of(entry, ambient::random()));
    put(&entry.name, Expect::Absent, &new_one)
}

fn put(name: &Name, expect: Expect, stored: &Record<Stored>) -> Result<DocumentSwap, BrokerError> {
    let put = Put::Set(encode(stored)?, stored.known.due());
    Ok(DocumentSwap::new(Space::Schedules, name, expect, put))
}

/// The changes that accompany the removal of an entry: its history is deleted and the removal is recorded.
pub(super) fn removed_with(name: &Name, now: Timestamp) -> Result<[DocumentSwap; 4], BrokerError> {
    let history = DocumentSwap::new(Space::ScheduleEvents, name, Expect::Any, Put::Remove);
    let note = declared::note_removal(removal(name), now);
    let mark = declared::new_mark(declared::SCHEDULES)?;
    let pause = pauses::removed_of_schedule(name);
    Ok([history, note, mark, pause])
}

/// The name of an entry's record of removal.
pub(crate) fn removal(name: &Name) -> Name {
    format!("schedule\n{name}").into()
}

pub(super) fn of(name: &Name) -> String {
    format!("schedule entry `{name}`")
}

/// The start of the guards of outboxes. A schedule entry of this name does not have their guards, because it ends its
/// own with a hexadecimal number.
const OF_OUTBOX: &str = "\noutbox\n";

impl TickGuard {
    /// The guard of an [entry](crate::outbox::Entry) with this number in the outbox with this id. Queues remember the
    /// last number as long as they exist: an outbox may send an entry again after any time.
    pub fn of_outbox(outbox: &Name, number: u64) -> Self {
        Self {
            guard: format!("{OF_OUTBOX}{outbox}").into(),
            tick: Timestamp::from_millis(number),
        }
    }
}

/// For stores that delete the ticks they remember once these are no longer needed.
impl TickGuard {
    /// The name of the document in [`Space::Schedules`] that determines whether a guard is [in use](Self::is_in_use).
    pub fn document_of(guard: &Name) -> Name {
        match guard.rsplit_once('\n') {
            Some((name, _)) => name.into(),
            None => guard.clone(),
        }
    }

    /// Whether tasks may still be enqueued to a queue under a guard, according to its [document](Self::document_of), if
    /// there is one. An undecodable document counts as in use, and so does the guard of an
    /// [outbox](Self::of_outbox), which has no document.
    pub fn is_in_use(guard: &Name, queue: &Name, document: Option<&Document>) -> bool {
        if guard.starts_with(OF_OUTBOX) {
            return true;
        }
        let name = Self::document_of(guard);
        document.is_some_and(|document| match Kept::read(&name, document) {
            Ok(kept) => kept.stored.known.queue == *queue && kept.guard(&name) == *guard,
            Err(_) => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A relay may send an entry again after any time.
    #[test]
    fn the_last_number_of_an_outbox_is_never_a_leftover() {
        let guard = TickGuard::of_outbox(&"01J".into(), 7);
        assert_eq!(guard.tick, Timestamp::from_millis(7));
        let queue = Name::from("q");
        assert!(TickGuard::is_in_use(&guard.guard, &queue, None));
        assert!(!TickGuard::is_in_use(&"outbox\n1f".into(), &queue, None));
    }
}
