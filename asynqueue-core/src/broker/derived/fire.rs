//! Firing ticks: read the entries and histories, enqueue the tasks of all ticks in one call, then advance the entries.
//!
//! A scheduler that dies in between leaves ticks to be fired again. The queue remembers the last tick of each entry and
//! accepts the task of each tick once.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    MAX_CHUNK,
    entry::Kept,
    nothing,
    records::{Record, as_read, decode, encode, readable},
};
use crate::{
    broker::{
        BrokerError, Conflict, DocumentSwap, Expect, Fire, FireOutcome, NewTask, Put,
        ScheduleEvent, Space, Store, Swapped, Tick, TickGuard, When,
    },
    task::{Name, Timestamp},
};

/// Fires ticks, those of the same entry one after the other. Makes three calls for each chunk, and two more each time
/// entries have changed in between.
pub(super) async fn fire<S: Store>(
    store: &S,
    ticks: Vec<Fire>,
) -> Result<Vec<Result<bool, Conflict>>, BrokerError> {
    if ticks.is_empty() {
        return nothing(store).await;
    }
    let mut results = Vec::with_capacity(ticks.len());
    let mut ticks = ticks.into_iter().peekable();
    while ticks.peek().is_some() {
        let chunk = ticks.by_ref().take(MAX_CHUNK).collect();
        results.extend(fire_chunk(store, chunk).await?);
    }
    Ok(results)
}

/// The last events of an entry, newest first.
pub(super) async fn events<S: Store>(
    store: &S,
    name: &Name,
    limit: usize,
) -> Result<Vec<ScheduleEvent>, BrokerError> {
    let names = std::slice::from_ref(name);
    let mut found = store.document(Space::ScheduleEvents, names).await?;
    let Some(document) = found.pop().flatten() else {
        return Ok(Vec::new());
    };
    let history: Record<History> = decode(&document.bytes, of(name))?;
    let events = history.known.events.iter();
    let events = events.filter_map(|event| readable(event, of(name)));
    Ok(events.take(limit).collect())
}

/// The history of an entry as it is stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct History {
    /// Newest first. Each event is encoded separately, so that one from a later version is preserved.
    #[serde(default)]
    events: Vec<Bytes>,
}

fn of(name: &Name) -> String {
    format!("the history of schedule entry `{name}`")
}

/// An entry as it was read, with its history.
struct Known {
    kept: Kept,
    /// `None` if it is undecodable; it is not changed then.
    history: Option<Record<History>>,
    history_as_read: Expect,
}

/// The change that advances an entry.
struct Advance {
    set: Vec<DocumentSwap>,
    /// For each fired tick, whether the entry advances past it.
    advanced: Vec<bool>,
}

/// A tick that is being fired.
struct Fired {
    /// Its index among the ticks of the call.
    place: usize,
    tick: Timestamp,
    next: Option<Timestamp>,
    outcome: FireOutcome,
    /// The result if this call advances the entry.
    result: Result<bool, Conflict>,
}

async fn fire_chunk<S: Store>(
    store: &S,
    ticks: Vec<Fire>,
) -> Result<Vec<Result<bool, Conflict>>, BrokerError> {
    let mut results = vec![Ok(false); ticks.len()];
    let mut names: Vec<_> = ticks.iter().map(|fire| fire.name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    let mut entries = read(store, &names).await?;
    let mut fired = enqueue_next(store, &entries, ticks).await?;
    while !fired.is_empty() {
        advance(store, &entries, &mut fired, &mut results).await?;
        // The entries that have changed in between.
        let names: Vec<_> = fired.keys().cloned().collect();
        let mut again = read(store, &names).await?;
        // An entry that was removed and added again starts over.
        again.retain(|name, now| {
            let before = entries.get(name);
            before.is_some_and(|before| now.kept.continues(&before.kept))
        });
        entries = again;
    }
    Ok(results)
}

/// Reads entries with their histories in one call. Undecodable entries are left out.
async fn read<S: Store>(store: &S, names: &[Name]) -> Result<BTreeMap<Name, Known>, BrokerError> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let look = |name: &Name| {
        [Space::Schedules, Space::ScheduleEvents]
            .map(|space| DocumentSwap::new(space, name, Expect::Any, Put::Keep))
            .to_vec()
    };
    let found = store.swap(names.iter().map(look).collect()).await?;
    let known = names.iter().zip(found);
    let known = known.filter_map(|(name, found)| Some((name.clone(), Known::read(name, found)?)));
    Ok(known.collect())
}

/// Enqueues the tasks of the ticks that are next, in one call. Returns these ticks by entry.
async fn enqueue_next<S: Store>(
    store: &S,
    entries: &BTreeMap<Name, Known>,
    ticks: Vec<Fire>,
) -> Result<BTreeMap<Name, Vec<Fired>>, BrokerError> {
    let due = entries.iter();
    let mut due: BTreeMap<_, _> = due.map(|(name, known)| (name, known.kept.due())).collect();
    let mut fired: BTreeMap<Name, Vec<Fired>> = BTreeMap::new();
    let (mut tasks, mut sent) = (Vec::new(), Vec::new());
    for (place, fire) in ticks.into_iter().enumerate() {
        let Some(due) = due
            .get_mut(&fire.name)
            .filter(|due| **due == Some(fire.tick))
        else {
            continue;
        };
        *due = fire.next;
        let outcome = match fire.what {
            Tick::Skip(reason) => FireOutcome::Skipped(reason),
            Tick::Enqueue(envelope, at) => {
                let guard = entries[&fire.name].kept.guard(&fire.name);
                let (task, tick) = (envelope.task_ref(), fire.tick);
                sent.push((fire.name.clone(), fired.get(&fire.name).map_or(0, Vec::len)));
                tasks.push(NewTask {
                    tick: Some(TickGuard { guard, tick }),
                    ..NewTask::new(envelope, When::At(at))
                });
                FireOutcome::Enqueued(task)
            }
        };
        fired.entry(fire.name).or_default().push(Fired {
            place,
            tick: fire.tick,
            next: fire.next,
            outcome,
            result: Ok(true),
        });
    }
    if tasks.is_empty() {
        return Ok(fired);
    }
    for ((name, at), result) in sent.into_iter().zip(store.enqueue(tasks).await?) {
        if let Some(fired) = fired.get_mut(&name).and_then(|fired| fired.get_mut(at)) {
            fired.note(result);
        }
    }
    Ok(fired)
}

impl Fired {
    /// Records whether its task was accepted.
    fn note(&mut self, result: Result<(), Conflict>) {
        match result {
            Ok(()) => {}
            // A task for this tick was accepted before. The scheduler that advances the entry records it.
            Err(Conflict::Fired { .. }) => self.result = Ok(false),
            Err(conflict) => {
                self.outcome = FireOutcome::Refused(conflict.to_string());
                self.result = Err(conflict);
            }
        }
    }

    /// The result if another scheduler has advanced the entry: the conflict was with that scheduler's task.
    fn result_of_second(&self) -> Result<bool, Conflict> {
        let is_enqueued = matches!(self.outcome, FireOutcome::Enqueued(_));
        Ok(is_enqueued && self.result == Ok(true))
    }
}

/// Advances entries past the fired ticks, and adds these to the histories. Leaves the ticks in `fired` whose entry has
/// changed since it was read.
async fn advance<S: Store>(
    store: &S,
    entries: &BTreeMap<Name, Known>,
    fired: &mut BTreeMap<Name, Vec<Fired>>,
    results: &mut [Result<bool, Conflict>],
) -> Result<(), BrokerError> {
    let at = store.now();
    let (mut sets, mut tried) = (Vec::new(), Vec::new());
    let mut over = Vec::new();
    for (name, ticks) in fired.iter() {
        let known = entries.get(name);
        let set = known
            .map(|known| known.advanced(name, ticks, at))
            .transpose()?;
        match set.flatten() {
            Some(Advance { set, advanced }) => {
                sets.push(set);
                tried.push((name.clone(), advanced));
            }
            None => over.push(name.clone()),
        }
    }
    let swapped = match sets.is_empty() {
        true => Vec::new(),
        false => store.swap(sets).await?,
    };
    let done = tried.into_iter().zip(swapped);
    let done = done.filter_map(|(tried, swapped)| swapped.is_done.then_some(tried));
    let over = over.into_iter().map(|name| (name, Vec::new()));
    for (name, advanced) in done.chain(over).collect::<Vec<_>>() {
        for (at, fired) in fired.remove(&name).into_iter().flatten().enumerate() {
            results[fired.place] = match advanced.get(at) {
                Some(true) => fired.result,
                _ => fired.result_of_second(),
            };
        }
    }
    Ok(())
}

impl Known {
    fn read(name: &Name, found: Swapped) -> Option<Self> {
        let mut found = found.kept.into_iter();
        let (entry, history) = (found.next()??, found.next()?);
        let undecodable = |error: &BrokerError| tracing::warn!(%error, "schedule entry is undecodable; skipping it");
        Some(Self {
            kept: Kept::read(name, &entry).inspect_err(undecodable).ok()?,
            history_as_read: as_read(history.as_ref()),
            history: match history {
                Some(history) => readable(&history.bytes, of(name)),
                None => Some(Record::default()),
            },
        })
    }

    /// The change that advances the entry past each tick that is still its next one, in sequence. `None` if none is.
    fn advanced(
        &self,
        name: &Name,
        ticks: &[Fired],
        at: Timestamp,
    ) -> Result<Option<Advance>, BrokerError> {
        // Even if it was paused in between.
        let mut next = self.kept.stored.known.next;
        let mut history = self.history.clone();
        let mut advanced = Vec::with_capacity(ticks.len());
        for fired in ticks {
            let is_next = next == Some(fired.tick);
            advanced.push(is_next);
            if is_next {
                next = fired.next;
                if let Some(history) = &mut history {
                    let (tick, outcome) = (fired.tick, fired.outcome.clone());
                    let event = encode(&ScheduleEvent { tick, at, outcome })?;
                    history.known.events.insert(0, event);
                }
            }
        }
        if !advanced.contains(&true) {
            return Ok(None);
        }
        let mut set = vec![self.kept.advanced(name, next)?];
        if let Some(mut history) = history {
            history.known.events.truncate(ScheduleEvent::KEPT);
            let put = Put::Set(encode(&history)?, None);
            let expect = self.history_as_read;
            set.push(DocumentSwap::new(Space::ScheduleEvents, name, expect, put));
        }
        Ok(Some(Advance { set, advanced }))
    }
}
