//! Documents by space and name, and by the time they are due.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    broker::{Document, DocumentSwap, DueDocuments, Expect, Put, Space, Swapped, Version},
    task::{Name, Timestamp},
};

/// All documents. Every change goes through [`swap`](Self::swap), which maintains the order by time.
#[derive(Debug, Default)]
pub(super) struct Documents {
    by_name: BTreeMap<(Space, Name), Document>,
    by_due: BTreeSet<(Space, Timestamp, Name)>,
    last_version: u64,
}

impl Documents {
    pub(super) fn get(&self, space: Space, name: &Name) -> Option<&Document> {
        self.by_name.get(&(space, name.clone()))
    }

    /// By name.
    pub(super) fn all(&self, space: Space) -> Vec<(Name, Document)> {
        let all = self.by_name.range((space, NO_NAME)..);
        let all = all.take_while(|((of, _), _)| *of == space);
        all.map(|((_, name), document)| (name.clone(), document.clone()))
            .collect()
    }

    /// Applies all changes, or none.
    pub(super) fn swap(&mut self, set: Vec<DocumentSwap>) -> Swapped {
        let mut swapped = Swapped {
            is_done: true,
            kept: Vec::new(),
        };
        for change in &set {
            let kept = self.get(change.space, &change.name);
            swapped.is_done &= match change.expect {
                Expect::Any => true,
                Expect::Absent => kept.is_none(),
                Expect::Version(version) => kept.is_some_and(|kept| kept.version == version),
            };
            if change.put == Put::Keep {
                swapped.kept.push(kept.cloned());
            }
        }
        if swapped.is_done {
            set.into_iter().for_each(|change| self.put(change));
        }
        swapped
    }

    fn put(
        &mut self,
        DocumentSwap {
            space, name, put, ..
        }: DocumentSwap,
    ) {
        if put == Put::Keep {
            return;
        }
        let key = (space, name);
        let before = self.by_name.remove(&key);
        if let Some(due) = before.and_then(|before| before.due) {
            self.by_due.remove(&(space, due, key.1.clone()));
        }
        if let Put::Set(bytes, due) = put {
            self.last_version += 1;
            let version = Version(self.last_version);
            let by_due = due.map(|due| (space, due, key.1.clone()));
            self.by_due.extend(by_due);
            let document = Document {
                bytes,
                due,
                version,
            };
            self.by_name.insert(key, document);
        }
    }

    /// Up to `limit` due documents, earliest first, and when the next one is due. Visits only these.
    pub(super) fn due(&self, space: Space, now: Timestamp, limit: usize) -> DueDocuments {
        let waiting = self.by_due.range((space, Timestamp::default(), NO_NAME)..);
        let mut waiting = waiting.take_while(|(of, ..)| *of == space).peekable();
        let mut documents = Vec::new();
        while documents.len() < limit
            && let Some((_, _, name)) = waiting.next_if(|(_, due, _)| *due <= now)
        {
            let document = self.get(space, name);
            documents.extend(document.map(|document| (name.clone(), document.clone())));
        }
        DueDocuments {
            documents,
            next_due: waiting.peek().map(|(_, due, _)| *due),
            now,
        }
    }
}

/// Sorts before all names.
const NO_NAME: Name = Name::from_static("");
