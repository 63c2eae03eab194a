//! Moves schedule entries with their history, by the same four steps as tasks: an entry with a mark is paused, and
//! fires nowhere.

use std::time::Duration;

use rmpv::Value;
use tokio::time::{Instant, sleep};

use super::{error::TransferError, side::Side};
use crate::{
    broker::{
        Document, DocumentSwap, Expect, Pausable, Put, SCHEDULES_MARK, Space, forget_removal,
        new_mark, note_removal, removal_of_entry,
    },
    task::{Name, Timestamp},
};

/// The field of a marked entry: the id of the move, and whether the entry was paused before.
const MARK: &str = "moving";

/// How often to look whether a due entry has been fired.
const LOOK: Duration = Duration::from_millis(100);

/// An entry's document as fields.
#[derive(Clone, Debug, PartialEq)]
struct Fields(Vec<(Value, Value)>);

impl Fields {
    fn read(document: &Document) -> Option<Self> {
        match rmpv::decode::read_value(&mut &*document.bytes).ok()? {
            Value::Map(fields) => Some(Self(fields)),
            _ => None,
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let mut fields = self.0.iter();
        let (_, value) = fields.find(|(key, _)| key.as_str() == Some(name))?;
        Some(value)
    }

    fn set(&mut self, name: &str, value: Value) {
        let mut fields = self.0.iter_mut();
        match fields.find(|(key, _)| key.as_str() == Some(name)) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.into(), value)),
        }
    }

    fn remove(&mut self, name: &str) {
        self.0.retain(|(key, _)| key.as_str() != Some(name));
    }

    /// The change to a document with these fields.
    fn put(&self) -> Put {
        let mut bytes = Vec::new();
        // Writing to memory cannot fail.
        let written = rmpv::encode::write_value(&mut bytes, &Value::Map(self.0.clone()));
        debug_assert!(written.is_ok(), "{written:?}");
        let is_paused = self.get("paused").and_then(Value::as_bool) == Some(true);
        let next = self.get("next").and_then(Value::as_u64);
        let due = next.map(Timestamp::from_millis).filter(|_| !is_paused);
        Put::Set(bytes.into(), due)
    }

    fn is_marked(&self, id: &Name) -> bool {
        self.mark().is_some_and(|(by, _)| by == id.as_str())
    }

    fn mark(&self) -> Option<(&str, bool)> {
        let [by, was_paused] = self.get(MARK)?.as_array()?.as_slice() else {
            return None;
        };
        Some((by.as_str()?, was_paused.as_bool()?))
    }

    fn marked(&self, id: &Name) -> Self {
        let mut marked = self.unmarked();
        let was_paused = marked.get("paused").cloned().unwrap_or(false.into());
        marked.set("paused", true.into());
        marked.set(MARK, Value::Array(vec![id.as_str().into(), was_paused]));
        marked
    }

    fn unmarked(&self) -> Self {
        let mut unmarked = self.clone();
        if let Some((_, was_paused)) = self.mark() {
            unmarked.remove(MARK);
            unmarked.set("paused", was_paused.into());
        }
        unmarked
    }
}

/// Moves entries under the id of a move.
pub(super) struct Entries<'a> {
    pub(super) from: &'a Side,
    pub(super) to: &'a Side,
    pub(super) id: &'a Name,
    /// How long a due entry waits for a scheduler of the source to fire it.
    pub(super) patience: Duration,
}

/// The result of moving an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    Yes,
    /// It is no longer at the source.
    Gone,
    /// The target has another one of its name.
    Taken,
    /// It has changed in between: look again.
    Changed,
}

impl Entries<'_> {
    /// The entries of the source that a move of these queues includes. `None` stands for all queues.
    pub(super) async fn names(&self, queues: Option<&[Name]>) -> Result<Vec<Name>, TransferError> {
        let all = self.from.documents(Space::Schedules).await?;
        let is_included = |document: &Document| {
            let fields = Fields::read(document);
            let queue = fields
                .as_ref()
                .and_then(|fields| fields.get("queue")?.as_str());
            queues.is_none_or(|queues| {
                queue.is_some_and(|queue| queues.iter().any(|name| name.as_str() == queue))
            })
        };
        let all = all.into_iter();
        let included = all.filter(|(_, document)| is_included(document));
        Ok(included.map(|(name, _)| name).collect())
    }

    /// Frees entries at the target that an earlier process had already deleted at the source.
    pub(super) async fn resume(&self) -> Result<(), TransferError> {
        for (name, document) in self.to.documents(Space::Schedules).await? {
            if !Fields::read(&document).is_some_and(|fields| fields.is_marked(self.id)) {
                continue;
            }
            let source = self.from.document(Space::Schedules, &name).await?;
            let source = source.as_ref().and_then(Fields::read);
            // Another entry may have its name since.
            if !source.is_some_and(|fields| fields.is_marked(self.id)) {
                self.free(&name).await?;
            }
        }
        Ok(())
    }

    /// Moves one entry.
    pub(super) async fn move_one(&self, name: &Name) -> Result<Moved, TransferError> {
        let Some((marked, version)) = self.fence(name).await? else {
            return Ok(Moved::Gone);
        };
        let history = self.from.document(Space::ScheduleEvents, name).await?;
        if !self.hold(name, &marked, history).await? {
            let back = marked.unmarked().put();
            let expect = Expect::Version(version.version);
            let set = vec![DocumentSwap::new(Space::Schedules, name, expect, back)];
            self.from.swap(set).await?;
            return Ok(Moved::Taken);
        }
        let pause = Pausable::Schedule(name.clone());
        self.from.copy_pause(self.to, &pause).await?;
        // Programs of the source that declare the entry do not restore it.
        let removal = note_removal(removal_of_entry(name), self.from.now());
        let expect = Expect::Version(version.version);
        let set = vec![
            DocumentSwap::new(Space::Schedules, name, expect, Put::Remove),
            DocumentSwap::new(Space::ScheduleEvents, name, Expect::Any, Put::Remove),
            DocumentSwap::new(Space::Pauses, pause.document(), Expect::Any, Put::Remove),
            removal,
        ];
        if !self.from.swap(set).await?
            && self.from.document(Space::Schedules, name).await?.is_some()
        {
            self.withdraw(name).await?;
            return Ok(Moved::Changed);
        }
        self.free(name).await?;
        Ok(Moved::Yes)
    }

    /// Puts the mark on an entry at the source, while it is not due: a scheduler may be firing a due one. Returns the
    /// marked entry as stored. `None` if it does not exist or is undecodable.
    async fn fence(&self, name: &Name) -> Result<Option<(Fields, Document)>, TransferError> {
        let started = Instant::now();
        loop {
            let Some(kept) = self.from.document(Space::Schedules, name).await? else {
                return Ok(None);
            };
            let Some(fields) = Fields::read(&kept) else {
                return Ok(None);
            };
            if fields.is_marked(self.id) {
                return Ok(Some((fields, kept)));
            }
            let is_due = || kept.due.is_some_and(|due| due <= self.from.now());
            // Without a scheduler at the source, it is fired at the target.
            let is_patient = started.elapsed() < self.patience;
            if is_due() && is_patient {
                sleep(LOOK).await;
                continue;
            }
            let put = |fields: &Fields, version| {
                let expect = Expect::Version(version);
                vec![DocumentSwap::new(
                    Space::Schedules,
                    name,
                    expect,
                    fields.put(),
                )]
            };
            let marked = fields.marked(self.id);
            self.from.swap(put(&marked, kept.version)).await?;
            let Some(fenced) = self.from.document(Space::Schedules, name).await? else {
                return Ok(None);
            };
            if Fields::read(&fenced).as_ref() != Some(&marked) {
                continue;
            }
            if is_due() && is_patient {
                // It has become due just now, and a scheduler may have seen it.
                self.from.swap(put(&fields, fenced.version)).await?;
                continue;
            }
            return Ok(Some((marked, fenced)));
        }
    }

    /// Puts the marked entry into the target. Returns whether it is there.
    async fn hold(
        &self,
        name: &Name,
        marked: &Fields,
        history: Option<Document>,
    ) -> Result<bool, TransferError> {
        let found = self.to.document(Space::Schedules, name).await?;
        let expect = match &found {
            None => Expect::Absent,
            Some(found) => {
                let fields = Fields::read(found);
                if !fields.is_some_and(|fields| fields.is_marked(self.id)) {
                    return Ok(false);
                }
                Expect::Version(found.version)
            }
        };
        let history = history.map_or(Put::Remove, |history| Put::Set(history.bytes, history.due));
        let mark = new_mark(SCHEDULES_MARK).map_err(|error| self.to.failed(error))?;
        let set = vec![
            DocumentSwap::new(Space::Schedules, name, expect, marked.put()),
            DocumentSwap::new(Space::ScheduleEvents, name, Expect::Any, history),
            forget_removal(removal_of_entry(name)),
            mark,
        ];
        self.to.swap(set).await
    }

    async fn withdraw(&self, name: &Name) -> Result<(), TransferError> {
        if let Some((_, kept)) = self.held(name).await? {
            let expect = Expect::Version(kept.version);
            let set = vec![
                DocumentSwap::new(Space::Schedules, name, expect, Put::Remove),
                DocumentSwap::new(Space::ScheduleEvents, name, Expect::Any, Put::Remove),
            ];
            self.to.swap(set).await?;
        }
        Ok(())
    }

    async fn free(&self, name: &Name) -> Result<(), TransferError> {
        if let Some((fields, kept)) = self.held(name).await? {
            let put = fields.unmarked().put();
            let expect = Expect::Version(kept.version);
            let set = vec![DocumentSwap::new(Space::Schedules, name, expect, put)];
            self.to.swap(set).await?;
        }
        Ok(())
    }

    /// The marked entry at the target.
    async fn held(&self, name: &Name) -> Result<Option<(Fields, Document)>, TransferError> {
        let found = self.to.document(Space::Schedules, name).await?;
        let read = |kept: Document| Some((Fields::read(&kept)?, kept));
        let found = found.and_then(read);
        Ok(found.filter(|(fields, _)| fields.is_marked(self.id)))
    }
}
