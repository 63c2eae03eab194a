//! A schedule entry as a document.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    declared, pauses,
    records::{Record, as_read, decode, encode, readable},
};
use crate::{
    ambient,
    broker::{
        BrokerError, Document, DocumentSwap, Expect, MissedTicks, Put, REMOVALS_KEPT,
        ScheduleEntry, Space, TickGuard,
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

/// The last ticks under a guard that is no longer used, because its entry was removed or has another queue. A scheduler
/// that read the entry before may still enqueue a tick that another one has enqueued, so the queue remembers them for a
/// while.
#[derive(Serialize, Deserialize)]
pub(super) struct LastTicks {
    queue: Name,
    guard: Name,
}

/// The start of the names of their records. The records of removals start with `schedule` or `subscriber`.
const OF_LAST_TICKS: &str = "ticks\n";

impl LastTicks {
    /// Records the guard of an entry among the removals.
    pub(super) fn note(
        name: &Name,
        kept: &Kept,
        now: Timestamp,
    ) -> Result<DocumentSwap, BrokerError> {
        let (queue, guard) = (kept.stored.known.queue.clone(), kept.guard(name));
        let record = format!("{OF_LAST_TICKS}{guard}");
        let put = Put::Set(encode(&Self { queue, guard })?, Some(now + REMOVALS_KEPT));
        Ok(DocumentSwap::new(Space::Removals, record, Expect::Any, put))
    }

    /// The queue and the guard, if this is such a record.
    pub(super) fn recorded_in((name, record): &(Name, Document)) -> Option<(Name, Name)> {
        let is_one = name.starts_with(OF_LAST_TICKS);
        let ticks: Option<Self> = is_one.then(|| readable(&record.bytes, name)).flatten();
        ticks.map(|ticks| (ticks.queue, ticks.guard))
    }
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
