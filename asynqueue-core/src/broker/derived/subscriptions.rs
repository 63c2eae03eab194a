//! Subscribers: a document for each event, and one for each removal that is remembered.

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
        BrokerError, Document, DocumentSwap, Put, Restored, Space, StateMark, Store, Subscription,
        Subscriptions,
    },
    task::{Name, Timestamp},
};

/// The subscribers of an event as they are kept.
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
        // Until none is missing: then it is the state of the mark that was read before.
        loop {
            let mark = self.subscriptions_mark().await?;
            let found = change(self, declared, Want::Restore).await?;
            let of = |wanted: Found| {
                let found = declared.iter().zip(&found);
                found.filter_map(move |(pair, found)| (*found == wanted).then(|| pair.clone()))
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

/// What is to be done about subscribers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Add,
    Remove,
    /// Add, unless it was removed on demand.
    Restore,
}

/// How a subscriber was found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    There,
    Missing,
    /// Missing, and removed on demand not long ago.
    Removed,
}

/// A change of one event's subscribers, and how they were found.
struct Change {
    set: Vec<DocumentSwap>,
    found: Vec<(usize, Found)>,
}

/// Changes subscribers, each given as event and name: the document of each event with the removals and the mark in one step.
///
/// An event whose document cannot be read is not changed, and is an error once the others are done.
async fn change<S: Store>(
    store: &S,
    pairs: &[(Name, Name)],
    want: Want,
) -> Result<Vec<Found>, BrokerError> {
    if pairs.is_empty() {
        return nothing(store).await;
    }
    let mut answers = vec![Found::Missing; pairs.len()];
    let mut open: BTreeMap<&Name, Vec<usize>> = BTreeMap::new();
    for (place, (event, _)) in pairs.iter().enumerate() {
        open.entry(event).or_default().push(place);
    }
    let mut failed = None;
    while !open.is_empty() {
        let events: Vec<Name> = open.keys().take(MAX_CHUNK).copied().cloned().collect();
        let documents = store.document(Space::Subscriptions, &events).await?;
        let removals = match want {
            Want::Restore => {
                let asked = events.iter().filter_map(|event| open.get(event)).flatten();
                let names: Vec<_> = asked.map(|place| removal(&pairs[*place])).collect();
                Removals::read(store, &names).await?
            }
            Want::Add | Want::Remove => Removals::none(),
        };
        let (mut sets, mut tried) = (Vec::new(), Vec::new());
        for (event, document) in events.iter().zip(documents) {
            let places = open.get(event).map_or(&[][..], Vec::as_slice);
            match plan(store.now(), event, document, pairs, places, want, &removals) {
                Ok(Change { set, found }) if set.is_empty() => {
                    found
                        .iter()
                        .for_each(|(place, found)| answers[*place] = *found);
                    open.remove(event);
                }
                Ok(Change { set, found }) => {
                    sets.push(set);
                    tried.push((event, found));
                }
                Err(error) => {
                    failed = Some(error);
                    open.remove(event);
                }
            }
        }
        if sets.is_empty() {
            continue;
        }
        for ((event, found), swapped) in tried.into_iter().zip(store.swap(sets).await?) {
            if swapped.is_done {
                found
                    .iter()
                    .for_each(|(place, found)| answers[*place] = *found);
                open.remove(event);
            }
        }
    }
    failed.map_or(Ok(answers), Err)
}

/// What a call makes of an event's subscribers as they are.
fn plan(
    now: Timestamp,
    event: &Name,
    document: Option<Document>,
    pairs: &[(Name, Name)],
    places: &[usize],
    want: Want,
    removals: &Removals,
) -> Result<Change, BrokerError> {
    let bytes = document.as_ref().map(|document| &document.bytes);
    let mut record: Record<Known> = match bytes {
        Some(bytes) => decode(bytes, of(event))?,
        None => Record::default(),
    };
    let known = &mut record.known.subscribers;
    let (mut set, mut found) = (Vec::new(), Vec::new());
    for place in places {
        let pair @ (_, name) = &pairs[*place];
        let at = known.iter().position(|known| known.known.name == *name);
        let as_found = match at {
            Some(_) => Found::There,
            None if removals.has(&removal(pair)) => Found::Removed,
            None => Found::Missing,
        };
        match (want, as_found) {
            (Want::Remove, _) => {
                at.map(|at| known.remove(at));
                let note = declared::note_removal(removal(pair), now);
                if !set.contains(&note) {
                    set.push(note);
                }
            }
            (Want::Add | Want::Restore, Found::Missing) => {
                known.push(Record::new(Subscriber {
                    name: name.clone(),
                    since: now,
                }));
                set.push(match want {
                    Want::Restore => removals.still_none(removal(pair)),
                    _ => declared::forget_removal(removal(pair)),
                });
            }
            _ => {}
        }
        found.push((*place, as_found));
    }
    if !set.is_empty() {
        let put = match known.is_empty() {
            true => Put::Remove,
            false => Put::Set(encode(&record)?, None),
        };
        let as_read = as_read(document.as_ref());
        set.push(DocumentSwap::new(Space::Subscriptions, event, as_read, put));
        set.push(declared::new_mark(SUBSCRIPTIONS)?);
    }
    Ok(Change { set, found })
}

/// The name of a removal. A subscriber's own name has no line break, so no two have the same.
fn removal((event, name): &(Name, Name)) -> Name {
    format!("subscriber\n{event}\n{name}").into()
}

fn of(event: &Name) -> String {
    format!("the document of the subscribers of `{event}`")
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
