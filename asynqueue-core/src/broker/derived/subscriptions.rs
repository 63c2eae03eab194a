//! `Subscriptions`: one document for each event, and one for each recorded removal.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{
    MAX_CHUNK,
    declared::{self, Removals, SUBSCRIPTIONS},
    nothing,
    records::{Record, as_read, decode, encode, readable},
};
use crate::{
    broker::{
        BrokerError, Document, DocumentSwap, Expect, Put, Restored, Space, StateMark, Store,
        Subscription, Subscriptions,
    },
    task::{Name, Timestamp},
};

/// The subscribers of an event as they are stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Known {
    #[serde(default)]
    subscribers: Vec<Record<Subscriber>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Subscriber {
    name: Name,
    since: Timestamp,
}

#[async_trait]
impl<S: Store> Subscriptions for S {
    async fn subscribe(&self, subscribers: Vec<(Name, Name)>) -> Result<(), BrokerError> {
        let changes = change(self, &subscribers, Want::Add).await;
        changes.map(drop)
    }

    async fn unsubscribe(&self, subscribers: &[(Name, Name)]) -> Result<Vec<bool>, BrokerError> {
        let found = change(self, subscribers, Want::Remove).await?;
        if !subscribers.is_empty() {
            declared::forget_old_removals(self).await;
        }
        Ok(found.iter().map(|found| *found == Found::There).collect())
    }

    async fn subscribers(&self, event: &Name) -> Result<Vec<Subscription>, BrokerError> {
        let mut found = self
            .document(Space::Subscriptions, std::slice::from_ref(event))
            .await?;
        match found.pop().flatten() {
            Some(document) => Ok(subscriptions(event, decode(&document.bytes, of(event))?)),
            None => Ok(Vec::new()),
        }
    }

    async fn subscriptions(&self) -> Result<Vec<Subscription>, BrokerError> {
        let mut all = Vec::new();
        for (event, document) in self.documents(Space::Subscriptions).await? {
            if let Some(known) = readable(&document.bytes, of(&event)) {
                all.extend(subscriptions(&event, known));
            }
        }
        Ok(all)
    }

    async fn subscriptions_mark(&self) -> Result<StateMark, BrokerError> {
        declared::mark(self, SUBSCRIPTIONS).await
    }

    async fn restore_subscriptions(
        &self,
        declared: &[(Name, Name)],
    ) -> Result<Restored<(Name, Name)>, BrokerError> {
        let mut restored = Vec::new();
        // Repeat until none is missing: only then does the mark read before describe that state.
        loop {
            let mark = self.subscriptions_mark().await?;
            let found = change(self, declared, Want::Restore).await?;
            let of = |wanted: Found| {
                let found = declared.iter().zip(&found);
                let found = found.filter(move |(_, found)| **found == wanted);
                found.map(|(pair, _)| pair.clone())
            };
            let before = restored.len();
            restored.extend(of(Found::Missing));
            if restored.len() == before {
                let removed = of(Found::Removed).collect();
                return Ok(Restored {
                    mark,
                    restored,
                    removed,
                });
            }
        }
    }
}

/// What to do with subscribers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Add,
    Remove,
    /// Add, unless it was removed on request.
    Restore,
}

/// The state in which a subscriber was found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    There,
    Missing,
    /// Missing, and removed on request recently.
    Removed,
}

/// The subscribers of an event as they were read.
struct Read {
    event: Name,
    record: Record<Known>,
    expect: Expect,
}

/// A change of one event's subscribers, and the state in which each subscriber of the call was found.
struct Change {
    set: Vec<DocumentSwap>,
    found: Vec<(usize, Found)>,
}

/// Changes subscribers, given as event and name: the document of each event, its removals and the mark, in one step.
///
/// An event with an undecodable document is not changed; the error is returned once the others are done.
async fn change<S: Store>(
    store: &S,
    pairs: &[(Name, Name)],
    want: Want,
) -> Result<Vec<Found>, BrokerError> {
    if pairs.is_empty() {
        return nothing(store).await;
    }
    let mut results = vec![Found::Missing; pairs.len()];
    let mut open: BTreeMap<Name, Vec<usize>> = BTreeMap::new();
    for (place, (event, _)) in pairs.iter().enumerate() {
        open.entry(event.clone()).or_default().push(place);
    }
    let mut failed = None;
    while !open.is_empty() {
        let events: Vec<_> = open.keys().take(MAX_CHUNK).cloned().collect();
        let mut known = Vec::with_capacity(events.len());
        for read in read(store, events).await? {
            match read {
                Ok(read) => known.push(read),
                Err((event, error)) => {
                    open.remove(&event);
                    failed = Some(error);
                }
            }
        }
        let removals = match want {
            Want::Restore => removals_of_missing(store, pairs, &open, &known).await?,
            Want::Add | Want::Remove => Removals::none(),
        };
        let (mut sets, mut tried) = (Vec::new(), Vec::new());
        for read in known {
            let (event, now) = (read.event.clone(), store.now());
            let requested = open.get(&event).into_iter().flatten();
            let requested = requested.map(|place| (*place, &pairs[*place]));
            let Change { set, found } = plan(read, requested, want, &removals, now)?;
            if set.is_empty() {
                found
                    .iter()
                    .for_each(|(place, found)| results[*place] = *found);
                open.remove(&event);
            } else {
                sets.push(set);
                tried.push((event, found));
            }
        }
        if sets.is_empty() {
            continue;
        }
        let swapped = store.swap(sets).await?;
        for ((event, found), _) in tried
            .into_iter()
            .zip(swapped)
            .filter(|(_, set)| set.is_done)
        {
            found
                .iter()
                .for_each(|(place, found)| results[*place] = *found);
            open.remove(&event);
        }
    }
    failed.map_or(Ok(results), Err)
}

/// Reads the documents of events. An undecodable document is an error of its event only.
async fn read<S: Store>(
    store: &S,
    events: Vec<Name>,
) -> Result<Vec<Result<Read, (Name, BrokerError)>>, BrokerError> {
    let documents = store.document(Space::Subscriptions, &events).await?;
    let read = |(event, document): (Name, Option<Document>)| {
        let record = match &document {
            Some(document) => decode(&document.bytes, of(&event)),
            None => Ok(Record::default()),
        };
        let expect = as_read(document.as_ref());
        match record {
            Ok(record) => Ok(Read {
                event,
                record,
                expect,
            }),
            Err(error) => Err((event, error)),
        }
    };
    Ok(events.into_iter().zip(documents).map(read).collect())
}

/// The recorded removals of missing subscribers.
async fn removals_of_missing<S: Store>(
    store: &S,
    pairs: &[(Name, Name)],
    open: &BTreeMap<Name, Vec<usize>>,
    known: &[Read],
) -> Result<Removals, BrokerError> {
    let mut names = Vec::new();
    for read in known {
        let requested = open.get(&read.event).into_iter().flatten();
        let requested = requested.map(|place| &pairs[*place]);
        names.extend(requested.filter(|(_, name)| !read.has(name)).map(removal));
    }
    match names.is_empty() {
        true => Ok(Removals::none()),
        false => Removals::read(store, &names).await,
    }
}

impl Read {
    fn has(&self, name: &Name) -> bool {
        let mut subscribers = self.record.known.subscribers.iter();
        subscribers.any(|subscriber| subscriber.known.name == *name)
    }
}

/// The change of an event's subscribers, given their current state. The set is empty if nothing changes.
fn plan<'a>(
    mut read: Read,
    requested: impl Iterator<Item = (usize, &'a (Name, Name))>,
    want: Want,
    removals: &Removals,
    now: Timestamp,
) -> Result<Change, BrokerError> {
    let (mut set, mut found) = (Vec::new(), Vec::new());
    for (place, pair @ (_, name)) in requested {
        let as_found = match read.has(name) {
            true => Found::There,
            false if removals.has(&removal(pair)) => Found::Removed,
            false => Found::Missing,
        };
        let subscribers = &mut read.record.known.subscribers;
        let removal = removal(pair);
        match (want, as_found) {
            (Want::Remove, _) => {
                subscribers.retain(|subscriber| subscriber.known.name != *name);
                let note = declared::note_removal(removal, now);
                if !set.contains(&note) {
                    set.push(note);
                }
            }
            (Want::Add | Want::Restore, Found::Missing) => {
                let (name, since) = (name.clone(), now);
                subscribers.push(Record::new(Subscriber { name, since }));
                set.push(match want {
                    Want::Restore => removals.still_none(removal),
                    _ => declared::forget_removal(removal),
                });
            }
            _ => {}
        }
        found.push((place, as_found));
    }
    if !set.is_empty() {
        let put = match read.record.known.subscribers.is_empty() {
            true => Put::Remove,
            false => Put::Set(encode(&read.record)?, None),
        };
        let space = Space::Subscriptions;
        set.push(DocumentSwap::new(space, read.event, read.expect, put));
        set.push(declared::new_mark(SUBSCRIPTIONS)?);
    }
    Ok(Change { set, found })
}

/// The name of a record of removal. Subscriber names have no line break, so no two records have the same name.
fn removal((event, name): &(Name, Name)) -> Name {
    format!("subscriber\n{event}\n{name}").into()
}

fn of(event: &Name) -> String {
    format!("the subscriber list of event `{event}`")
}

fn subscriptions(event: &Name, record: Record<Known>) -> Vec<Subscription> {
    let subscribers = record.known.subscribers.into_iter();
    let mut all: Vec<_> = subscribers
        .map(|subscriber| Subscription {
            event: event.clone(),
            name: subscriber.known.name,
            since: subscriber.known.since,
        })
        .collect();
    all.sort_unstable();
    all
}
