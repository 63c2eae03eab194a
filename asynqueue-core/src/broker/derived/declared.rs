//! The marks of what programs declare, the removals made on request, and the last ticks that outlive their entries.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{
    MAX_CHUNK,
    entry::LastTicks,
    records::{as_read, encode, readable},
};
use crate::{
    broker::{
        BrokerError, Document, DocumentSwap, Expect, Put, REMOVALS_KEPT, Space, StateMark, Store,
    },
    task::{Name, Timestamp},
};

/// The name of the mark of all subscribers.
pub(crate) const SUBSCRIPTIONS: Name = Name::from_static("subscriptions");

/// The name of the mark of all schedule entries.
pub(crate) const SCHEDULES: Name = Name::from_static("schedules");

/// A mark as it is stored.
#[derive(Serialize, Deserialize)]
struct Mark {
    mark: u64,
}

/// The mark with this name. The default if none is stored.
pub(super) async fn mark<S: Store>(store: &S, name: Name) -> Result<StateMark, BrokerError> {
    let mut found = store.document(Space::Marks, &[name]).await?;
    let mark = found.pop().flatten();
    // An undecodable mark differs from every mark seen before, until the next change.
    let mark = mark.map(|mark| readable(&mark.bytes, "a mark").unwrap_or(Mark { mark: u64::MAX }));
    Ok(mark.map_or(StateMark::default(), |mark| StateMark(mark.mark)))
}

/// Stores a new mark. Part of each addition and each removal.
pub(crate) fn new_mark(name: Name) -> Result<DocumentSwap, BrokerError> {
    let StateMark(mark) = StateMark::generate();
    let put = Put::Set(encode(&Mark { mark })?, None);
    Ok(DocumentSwap::new(Space::Marks, name, Expect::Any, put))
}

/// Records a removal.
pub(crate) fn note_removal(name: Name, now: Timestamp) -> DocumentSwap {
    let put = Put::Set(bytes::Bytes::new(), Some(now + REMOVALS_KEPT));
    DocumentSwap::new(Space::Removals, name, Expect::Any, put)
}

/// Deletes the record of a removal, because the item is added again.
pub(crate) fn forget_removal(name: Name) -> DocumentSwap {
    DocumentSwap::new(Space::Removals, name, Expect::Any, Put::Remove)
}

/// The recorded removals, by their names.
pub(super) struct Removals {
    found: HashMap<Name, Document>,
    now: Timestamp,
}

impl Removals {
    /// For items that were not looked up.
    pub(super) fn none() -> Self {
        Self {
            found: HashMap::new(),
            now: Timestamp::default(),
        }
    }

    pub(super) async fn read<S: Store>(store: &S, names: &[Name]) -> Result<Self, BrokerError> {
        let now = store.now();
        let mut found = HashMap::new();
        for names in names.chunks(MAX_CHUNK) {
            let documents = store.document(Space::Removals, names).await?;
            let documents = names.iter().cloned().zip(documents);
            found.extend(documents.filter_map(|(name, document)| Some((name, document?))));
        }
        Ok(Self { found, now })
    }

    /// Whether it was removed on request within [`REMOVALS_KEPT`](crate::broker::REMOVALS_KEPT).
    pub(super) fn has(&self, name: &Name) -> bool {
        let removal = self.found.get(name);
        removal.is_some_and(|removal| removal.due.is_none_or(|due| due > self.now))
    }

    /// Makes an addition conditional on no removal since.
    pub(super) fn still_none(&self, name: Name) -> DocumentSwap {
        let expect = as_read(self.found.get(&name));
        DocumentSwap::new(Space::Removals, name, expect, Put::Remove)
    }
}

/// Deletes some expired records of removals, and the last ticks that some of them name. Runs with each removal and
/// regularly on each server. Nothing depends on it.
pub(super) async fn forget_old_removals<S: Store>(store: &S) {
    if let Err(error) = forget_some(store).await {
        tracing::debug!(%error, "could not delete expired records of removals");
    }
}

async fn forget_some<S: Store>(store: &S) -> Result<(), BrokerError> {
    let old = store.due(Space::Removals, FORGOTTEN_AT_ONCE).await?;
    let old = old.documents;
    if old.is_empty() {
        return Ok(());
    }
    // Before their records: otherwise nobody would know them if this process died in between.
    let ticks: Vec<_> = old.iter().filter_map(LastTicks::recorded_in).collect();
    if !ticks.is_empty() {
        store.forget_ticks(&ticks).await?;
    }
    let forget = |(name, removal): (Name, Document)| {
        let as_it_is = Expect::Version(removal.version);
        let change = DocumentSwap::new(Space::Removals, name, as_it_is, Put::Remove);
        vec![change]
    };
    store.swap(old.into_iter().map(forget).collect()).await?;
    Ok(())
}

/// A few more than most calls add, so that the records do not accumulate.
const FORGOTTEN_AT_ONCE: usize = 100;
