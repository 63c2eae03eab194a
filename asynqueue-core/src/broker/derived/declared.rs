//! The marks of what programs declare, and what was removed of it on demand.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{
    MAX_CHUNK,
    records::{as_read, encode, readable},
};
use crate::{
    broker::{
        BrokerError, Document, DocumentSwap, Expect, Put, REMOVALS_KEPT, Space, StateMark, Store,
    },
    task::{Name, Timestamp},
};

/// The mark of all subscribers.
pub(super) const SUBSCRIPTIONS: Name = Name::from_static("subscriptions");

/// The mark of all schedule entries.
pub(super) const SCHEDULES: Name = Name::from_static("schedules");

/// A mark as it is kept.
#[derive(Serialize, Deserialize)]
struct Mark {
    mark: u64,
}

/// The mark of that name; the default if none was put so far.
pub(super) async fn mark<S: Store>(store: &S, name: Name) -> Result<StateMark, BrokerError> {
    let mut found = store.document(Space::Marks, &[name]).await?;
    let mark = found.pop().flatten();
    // One that cannot be read differs from all that were seen, until the next change.
    let mark = mark.map(|mark| readable(&mark.bytes, "a mark").unwrap_or(Mark { mark: u64::MAX }));
    Ok(mark.map_or(StateMark::default(), |mark| StateMark(mark.mark)))
}

/// Puts a mark that was never before. Part of each addition and each removal.
pub(super) fn new_mark(name: Name) -> Result<DocumentSwap, BrokerError> {
    let StateMark(mark) = StateMark::generate();
    let put = Put::Set(encode(&Mark { mark })?, None);
    Ok(DocumentSwap::new(Space::Marks, name, Expect::Any, put))
}

/// Remembers a removal.
pub(super) fn note_removal(name: Name, now: Timestamp) -> DocumentSwap {
    let put = Put::Set(bytes::Bytes::new(), Some(now + REMOVALS_KEPT));
    DocumentSwap::new(Space::Removals, name, Expect::Any, put)
}

/// Forgets a removal, since what was removed is added again.
pub(super) fn forget_removal(name: Name) -> DocumentSwap {
    DocumentSwap::new(Space::Removals, name, Expect::Any, Put::Remove)
}

/// What is remembered of removals, by their names.
pub(super) struct Removals {
    found: HashMap<Name, Document>,
    now: Timestamp,
}

impl Removals {
    /// Where none were asked for.
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

    /// Whether it was removed on demand not long ago.
    pub(super) fn has(&self, name: &Name) -> bool {
        let removal = self.found.get(name);
        removal.is_some_and(|removal| removal.due.is_none_or(|due| due > self.now))
    }

    /// Lets an addition be made only while it was not removed since.
    pub(super) fn still_none(&self, name: Name) -> DocumentSwap {
        let expect = as_read(self.found.get(&name));
        DocumentSwap::new(Space::Removals, name, expect, Put::Remove)
    }
}

/// Deletes some of the removals that are remembered no longer: with each addition of one, and now and then by each server. Nothing
/// depends on it.
pub(super) async fn forget_old_removals<S: Store>(store: &S) {
    let forget = |(name, removal): (Name, Document)| {
        let as_it_is = Expect::Version(removal.version);
        let change = DocumentSwap::new(Space::Removals, name, as_it_is, Put::Remove);
        vec![change]
    };
    let forgotten = async {
        let old = store.due(Space::Removals, FORGOTTEN_AT_ONCE).await?;
        if !old.documents.is_empty() {
            let sets = old.documents.into_iter().map(forget).collect();
            store.swap(sets).await?;
        }
        Ok(())
    };
    if let Err(error) = forgotten.await {
        let error: BrokerError = error;
        tracing::debug!(%error, "removals that are over were not forgotten");
    }
}

/// Some more than most calls add, so that they do not pile up.
const FORGOTTEN_AT_ONCE: usize = 100;
