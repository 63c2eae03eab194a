//! Small records beside the tasks. Each space is a HASH of documents and a ZSET of due times, all in one slot.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    str,
    sync::atomic::Ordering::Relaxed,
};

use asynqueue_core::broker::{
    BrokerError, Document, DocumentSwap, DueDocuments, Expect, Put, Space, Swapped, Version,
    kit::Used,
};
use asynqueue_core::task::{Name, Timestamp};
use bytes::Bytes;
use redis::Value;

use super::{MAX_CHUNK, MAX_CHUNK_BYTES, MAX_MILLIS, RedisBroker};
use crate::{
    keys::{DocumentKeys, SpaceKeys},
    reply, script,
};

impl RedisBroker {
    /// Returns documents of a space, in the order of the names.
    pub(super) async fn documents_named(
        &self,
        space: Space,
        names: &[Name],
    ) -> Result<Vec<Option<Document>>, BrokerError> {
        let mut found = Vec::with_capacity(names.len());
        for names in names.chunks(MAX_CHUNK) {
            let mut command = redis::cmd("HMGET");
            command.arg(&self.document_keys().space(space).documents);
            for name in names {
                command.arg(name.as_str());
            }
            let values = reply::array(self.command(&command).await?)?;
            for (name, value) in names.iter().zip(values) {
                let value = reply::some_bytes(value)?;
                found.push(value.and_then(|value| readable(name, value)));
            }
        }
        Ok(found)
    }

    /// Returns all documents of a space, by name.
    pub(super) async fn documents_of(
        &self,
        space: Space,
    ) -> Result<Vec<(Name, Document)>, BrokerError> {
        let key = &self.document_keys().space(space).documents;
        let values = self.hash(key).await?.into_iter();
        let mut documents: Vec<_> = values
            .filter_map(|(name, value)| named(name, value))
            .collect();
        documents.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(documents)
    }

    /// Returns up to `limit` due documents of a space, earliest first.
    pub(super) async fn due_documents(
        &self,
        space: Space,
        limit: usize,
    ) -> Result<DueDocuments, BrokerError> {
        let mut due = DueDocuments::default();
        let mut passed = 0;
        loop {
            let left = limit.saturating_sub(due.documents.len()).min(MAX_CHUNK);
            let looked_at = self
                .due_documents_after(space, &mut passed, left, &mut due)
                .await?;
            if looked_at < left || due.documents.len() >= limit {
                return Ok(due);
            }
        }
    }

    /// Adds up to `limit` due documents, after skipping `passed`. Returns the number of names it has read.
    async fn due_documents_after(
        &self,
        space: Space,
        passed: &mut usize,
        limit: usize,
        due: &mut DueDocuments,
    ) -> Result<usize, BrokerError> {
        let args = script::due_documents::Args {
            not_after: self.script_clock(),
            passed: *passed,
            limit,
        };
        let call = script::due_documents::call(self.document_keys().space(space), args);
        let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
        due.next_due = reply::some_time(reply::next(&mut answer)?)?;
        due.now = reply::time(&reply::text(reply::next(&mut answer)?)?)?;
        self.note_time(due.now);
        let looked_at = reply::number(reply::next(&mut answer)?)?;
        // A name without a document is removed, so it does not count as skipped.
        while let (Some(name), Some(value)) = (answer.next(), answer.next()) {
            due.documents
                .extend(named(reply::text(name)?, reply::bytes(value)?));
            *passed += 1;
        }
        Ok(looked_at as usize)
    }

    /// Applies sets of changes, as many per call as fit.
    pub(super) async fn swap_documents(
        &self,
        sets: &[Vec<DocumentSwap>],
    ) -> Result<Vec<Swapped>, BrokerError> {
        let mut swapped = Vec::with_capacity(sets.len());
        let mut sets = sets;
        while !sets.is_empty() {
            let (chunk, rest) = sets.split_at(fitting(sets));
            swapped.extend(self.swap_fitting(chunk).await?);
            sets = rest;
        }
        Ok(swapped)
    }

    async fn swap_fitting(&self, sets: &[Vec<DocumentSwap>]) -> Result<Vec<Swapped>, BrokerError> {
        // A set that only reads can be sent again.
        let changes = sets.iter().flatten().any(|one| one.put != Put::Keep);
        let lane = changes.then(|| self.0.changes.next());
        let places = Places::of(sets);
        let call = self.swap_call(sets, &places, lane.as_ref());
        let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
        if let Some(lane) = lane {
            lane.answered();
        }
        let count = reply::number(reply::next(&mut answer)?)?;
        if places.0.contains_key(&Space::Servers) {
            self.0.keeper.fleet.store(count as usize, Relaxed);
        }
        let swapped = sets.iter().map(|set| read_swapped(set, &mut answer));
        swapped.collect()
    }

    fn swap_call(
        &self,
        sets: &[Vec<DocumentSwap>],
        places: &Places,
        lane: Option<&Used<'_>>,
    ) -> script::Call<script::swap_documents::Of> {
        let keys = self.document_keys();
        let spaces = places.0.keys().map(|space| keys.space(*space));
        let spaces: Vec<_> = spaces
            .flat_map(|SpaceKeys { documents, due }| [documents.as_str(), due])
            .collect();
        let keys = script::swap_documents::Keys {
            lanes: &keys.lanes,
            spaces: &spaces,
        };
        let args = script::swap_documents::Args {
            not_after: self.script_clock(),
            lane: lane.map(Used::name).unwrap_or_default(),
            number: number(lane.map(Used::number)),
            counted: number(places.0.get(&Space::Servers)),
        };
        let mut call = script::swap_documents::call(keys, args);
        for (n, set) in sets.iter().enumerate() {
            for change in set {
                let (put, due_at) = written(&change.put);
                call.row(script::swap_documents::Change {
                    set: n,
                    space: places.0[&change.space],
                    name: change.name.as_str(),
                    expect: expected(change.expect),
                    put,
                    due_at,
                });
            }
        }
        call
    }

    fn document_keys(&self) -> &DocumentKeys {
        &self.0.documents
    }
}

/// The index of each space's keys among the keys of a call.
struct Places(BTreeMap<Space, usize>);

impl Places {
    fn of(sets: &[Vec<DocumentSwap>]) -> Self {
        let spaces: BTreeSet<_> = sets.iter().flatten().map(|change| change.space).collect();
        Self(spaces.into_iter().zip((0..).step_by(2)).collect())
    }
}

/// Reads the response to a set.
fn read_swapped(
    set: &[DocumentSwap],
    answer: &mut impl Iterator<Item = Value>,
) -> Result<Swapped, BrokerError> {
    let mut swapped = Swapped {
        // A set without changes is not sent.
        is_done: set.is_empty() || reply::text(reply::next(answer)?)? == "y",
        kept: Vec::new(),
    };
    for change in set.iter().filter(|change| change.put == Put::Keep) {
        let value = reply::some_bytes(reply::next(answer)?)?;
        let kept = value.and_then(|value| readable(&change.name, value));
        swapped.kept.push(kept);
    }
    Ok(swapped)
}

/// How many of the first sets fit into one call, at least one.
fn fitting(sets: &[Vec<DocumentSwap>]) -> usize {
    let (mut changes, mut bytes) = (0, 0);
    let fits = |set: &&Vec<DocumentSwap>| {
        changes += set.len();
        bytes += set.iter().map(size).sum::<usize>();
        changes <= MAX_CHUNK && bytes <= MAX_CHUNK_BYTES
    };
    sets.iter().take_while(fits).count().max(1)
}

fn size(change: &DocumentSwap) -> usize {
    let content = match &change.put {
        Put::Set(bytes, _) => bytes.len(),
        Put::Keep | Put::Remove => 0,
    };
    change.name.len() + content
}

/// A number for scripts, empty for `None`.
fn number(number: Option<impl ToString>) -> String {
    number.map_or_else(String::new, |number| number.to_string())
}

fn version_text(version: Version) -> String {
    format!("{:016x}", version.0)
}

fn expected(expect: Expect) -> String {
    match expect {
        Expect::Any => "*".into(),
        Expect::Absent => String::new(),
        Expect::Version(version) => version_text(version),
    }
}

/// The arguments of a change: the document as stored, and when it is due.
fn written(put: &Put) -> (Vec<u8>, String) {
    match put {
        Put::Keep => (b"=".to_vec(), String::new()),
        Put::Remove => (Vec::new(), String::new()),
        Put::Set(bytes, due) => {
            let due = number(due.map(|due| due.as_millis().min(MAX_MILLIS)));
            // Random, so that a document that is deleted and created again gets a new version.
            let mut head = version_text(Version(rand::random()));
            // Writing to a `String` cannot fail.
            let _ = write!(head, " {due} ");
            ([head.as_bytes(), bytes].concat(), due)
        }
    }
}

/// Reads a document as stored. `None` if it has no valid version.
fn read(value: Vec<u8>) -> Option<Document> {
    let mut parts = value.splitn(3, |byte| *byte == b' ');
    let mut next = || parts.next().and_then(|part| str::from_utf8(part).ok());
    let (version, due) = (next()?, next()?);
    let content = version.len() + due.len() + 2;
    let due = match due {
        "" => None,
        due => Some(Timestamp::from_millis(due.parse().ok()?)),
    };
    let version = Version(u64::from_str_radix(version, 16).ok()?);
    parts.next()?;
    Some(Document {
        bytes: Bytes::from(value).slice(content..),
        due,
        version,
    })
}

/// Reads a document. An invalid value counts as absent, and the next change replaces it.
fn readable(name: &str, value: Vec<u8>) -> Option<Document> {
    let document = read(value);
    if document.is_none() {
        tracing::warn!(%name, "a stored value is not a document; skipping it");
    }
    document
}

fn named(name: String, value: Vec<u8>) -> Option<(Name, Document)> {
    let document = readable(&name, value)?;
    Some((name.into(), document))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_read_as_it_was_written() {
        for due in [None, Some(Timestamp::from_millis(1_700_000_000_000))] {
            for content in [&b""[..], b" ", b"\x00 \xff", b"text with spaces"] {
                let (written, due_at) = written(&Put::Set(content.into(), due));
                let found = read(written).expect("a document");
                assert_eq!((&*found.bytes, found.due), (content, due));
                assert_eq!(due_at.is_empty(), due.is_none());
            }
        }
    }

    #[test]
    fn a_value_without_a_version_is_not_a_document() {
        for value in ["", "x", "0 ", "0  ", "g  x", "0 x y", "0"] {
            let is_one = read(value.into()).is_some();
            assert_eq!(is_one, value == "0  ", "`{value}`");
        }
    }

    #[test]
    fn a_set_is_not_split_and_many_sets_are() {
        let change = |size: usize| {
            let put = Put::Set(vec![0; size].into(), None);
            DocumentSwap::new(Space::Marks, "", Expect::Any, put)
        };
        let set = |count: usize, size: usize| vec![change(size); count];
        assert_eq!(fitting(&[set(2_000, 0), set(1, 0)]), 1);
        assert_eq!(fitting(&vec![set(2, 0); 1_000]), 250);
        assert_eq!(fitting(&[set(1, MAX_CHUNK_BYTES), set(1, 1)]), 1);
    }
}
