//! `Schedules`: one document for each entry, one for its history, and one for each recorded removal.

use std::collections::HashSet;

use async_trait::async_trait;

use super::{
    MAX_CHUNK,
    declared::{self, Removals, SCHEDULES},
    entry::{self, Kept, LastTicks},
    fire, nothing, pauses,
    records::as_read,
};
use crate::{
    broker::{
        BrokerError, Conflict, Document, DocumentSwap, DueSchedules, Fire, Put, Restored,
        ScheduleEntry, ScheduleEvent, ScheduleSwap, Schedules, Space, StateMark, Store,
    },
    task::{Name, Timestamp},
};

#[async_trait]
impl<S: Store> Schedules for S {
    async fn swap_schedules(&self, swaps: Vec<ScheduleSwap>) -> Result<Vec<bool>, BrokerError> {
        let changes = swaps.iter().map(|swap| (&swap.name, Want::Swap(swap)));
        change_entries(self, &changes.collect::<Vec<_>>()).await
    }

    async fn put_schedules(&self, entries: Vec<ScheduleEntry>) -> Result<(), BrokerError> {
        let changes = entries.iter().map(|entry| (&entry.name, Want::Put(entry)));
        let changes: Vec<_> = changes.collect();
        change_entries(self, &changes).await.map(drop)
    }

    async fn remove_schedules(&self, names: &[Name]) -> Result<Vec<bool>, BrokerError> {
        let changes = names.iter().map(|name| (name, Want::Remove));
        change_entries(self, &changes.collect::<Vec<_>>()).await
    }

    async fn schedules_mark(&self) -> Result<StateMark, BrokerError> {
        declared::mark(self, SCHEDULES).await
    }

    async fn restore_schedules(
        &self,
        declared: Vec<ScheduleEntry>,
    ) -> Result<Restored<Name>, BrokerError> {
        let mut found = Restored::default();
        // Repeat until none is missing: only then does the mark read before describe that state.
        loop {
            found.mark = self.schedules_mark().await?;
            found.removed.clear();
            let mut was_missing = false;
            for chunk in declared.chunks(MAX_CHUNK) {
                was_missing |= restore_chunk(self, chunk, &mut found).await?;
            }
            if !was_missing {
                return Ok(found);
            }
        }
    }

    async fn schedule(&self, name: &Name) -> Result<Option<ScheduleEntry>, BrokerError> {
        let requested = std::slice::from_ref(name);
        let mut found = self.document(Space::Schedules, requested).await?;
        let document = found.pop().flatten();
        document
            .map(|document| Kept::read(name, &document)?.entry(name))
            .transpose()
    }

    async fn schedules(&self) -> Result<Vec<ScheduleEntry>, BrokerError> {
        let all = self.documents(Space::Schedules).await?;
        Ok(all.iter().filter_map(readable).collect())
    }

    async fn due_schedules(&self, limit: usize) -> Result<DueSchedules, BrokerError> {
        let mut requested = limit;
        // Undecodable entries may hide others behind them.
        loop {
            let found = self.due(Space::Schedules, requested).await?;
            let entries: Vec<_> = found.documents.iter().filter_map(readable).collect();
            let is_all = found.documents.len() < requested;
            if is_all || entries.len() >= limit {
                let left_out = entries.get(limit).and_then(|entry| entry.next);
                return Ok(DueSchedules {
                    entries: entries.into_iter().take(limit).collect(),
                    next_due: left_out.or(found.next_due),
                    now: found.now,
                });
            }
            let undecodable = requested - entries.len();
            requested = limit.saturating_add(undecodable);
        }
    }

    async fn fire(&self, ticks: Vec<Fire>) -> Result<Vec<Result<bool, Conflict>>, BrokerError> {
        fire::fire(self, ticks).await
    }

    async fn schedule_events(
        &self,
        name: &Name,
        limit: usize,
    ) -> Result<Vec<ScheduleEvent>, BrokerError> {
        fire::events(self, name, limit).await
    }
}

/// An entry. Logs an undecodable one, such as one from a later version, and returns `None`, so that it does not hide
/// the others.
fn readable((name, document): &(Name, Document)) -> Option<ScheduleEntry> {
    let entry = Kept::read(name, document).and_then(|kept| kept.entry(name));
    let undecodable =
        |error: &BrokerError| tracing::warn!(%error, "schedule entry is undecodable; skipping it");
    entry.inspect_err(undecodable).ok()
}

/// The requested state of an entry.
enum Want<'a> {
    /// Replace the entry that was read.
    Swap(&'a ScheduleSwap),
    /// Set it, regardless of its current value.
    Put(&'a ScheduleEntry),
    /// Remove it, regardless of its current value.
    Remove,
}

/// What to do for that, given the current state of the entry.
enum Plan {
    /// Nothing. Return this result.
    Return(bool),
    Try {
        set: Vec<DocumentSwap>,
        /// The result if the change was made.
        done: bool,
    },
}

/// Changes entries, each in one step with all consequences. The result for each, in the order given, is whether a swap
/// was made, or whether the removed entry existed.
///
/// An undecodable entry cannot have been read, and is not replaced.
async fn change_entries<S: Store>(
    store: &S,
    changes: &[(&Name, Want<'_>)],
) -> Result<Vec<bool>, BrokerError> {
    if changes.is_empty() {
        return nothing(store).await;
    }
    let mut results = Vec::with_capacity(changes.len());
    let mut changes = changes;
    let has_removed = changes.iter().any(|(_, want)| want.removes());
    while !changes.is_empty() {
        // If an entry is named twice, its second change waits for the first.
        let mut names = HashSet::new();
        let some = changes.iter().take(MAX_CHUNK);
        let count = some.take_while(|(name, _)| names.insert(name)).count();
        let (chunk, rest) = changes.split_at(count);
        results.extend(change_chunk(store, chunk).await?);
        changes = rest;
    }
    if has_removed {
        declared::forget_old_removals(store).await;
    }
    Ok(results)
}

/// Changes entries of different names.
async fn change_chunk<S: Store>(
    store: &S,
    changes: &[(&Name, Want<'_>)],
) -> Result<Vec<bool>, BrokerError> {
    let mut results = vec![None; changes.len()];
    loop {
        let is_open = |place: &usize| results[*place].is_none();
        let open: Vec<_> = (0..changes.len()).filter(is_open).collect();
        if open.is_empty() {
            return Ok(results.into_iter().flatten().collect());
        }
        let names: Vec<_> = open.iter().map(|place| changes[*place].0.clone()).collect();
        let found = store.document(Space::Schedules, &names).await?;
        let (mut sets, mut tried) = (Vec::new(), Vec::new());
        for (place, document) in open.into_iter().zip(found) {
            let (name, want) = &changes[place];
            match plan(store.now(), name, want, document)? {
                Plan::Return(result) => results[place] = Some(result),
                Plan::Try { set, done } => {
                    sets.push(set);
                    tried.push((place, done));
                }
            }
        }
        if sets.is_empty() {
            continue;
        }
        for ((place, done), swapped) in tried.into_iter().zip(store.swap(sets).await?) {
            if swapped.is_done {
                results[place] = Some(done);
            }
        }
    }
}

impl Want<'_> {
    fn removes(&self) -> bool {
        match self {
            Self::Swap(swap) => swap.new.is_none(),
            Self::Put(_) => false,
            Self::Remove => true,
        }
    }
}

fn plan(
    now: Timestamp,
    name: &Name,
    want: &Want<'_>,
    document: Option<Document>,
) -> Result<Plan, BrokerError> {
    let kept = document.as_ref().map(|document| Kept::read(name, document));
    let new = match want {
        Want::Swap(ScheduleSwap { seen, new, .. }) => {
            let as_it_is = match &kept {
                Some(Ok(kept)) => kept.entry(name).map(Some),
                Some(Err(error)) => Err(error.clone()),
                None => Ok(None),
            };
            if as_it_is.ok().as_ref() != Some(seen) {
                return Ok(Plan::Return(false));
            }
            new.as_ref()
        }
        Want::Put(new) => Some(*new),
        Want::Remove => None,
    };
    let was_there = document.is_some();
    let Some(new) = new else {
        let as_read = as_read(document.as_ref());
        let mut set = vec![DocumentSwap::new(
            Space::Schedules,
            name,
            as_read,
            Put::Remove,
        )];
        set.extend(entry::removed_with(name, now)?);
        if let Some(Ok(kept)) = &kept {
            set.push(LastTicks::note(name, kept, now)?);
        }
        let done = was_there || matches!(want, Want::Swap(..));
        return Ok(Plan::Try { set, done });
    };
    let Some(kept) = kept.transpose()? else {
        let removal = declared::forget_removal(entry::removal(name));
        return Ok(Plan::Try {
            set: vec![entry::added(new)?, removal, declared::new_mark(SCHEDULES)?],
            done: true,
        });
    };
    let mut set = vec![kept.replaced_by(new)?];
    if kept.is_paused() && !new.paused {
        set.push(pauses::removed_of_schedule(name));
    }
    if kept.stored.known.queue != new.template.queue {
        set.push(LastTicks::note(name, &kept, now)?);
    }
    Ok(Plan::Try { set, done: true })
}

/// Adds the entries that are missing. Returns whether any was.
async fn restore_chunk<S: Store>(
    store: &S,
    declared: &[ScheduleEntry],
    found: &mut Restored<Name>,
) -> Result<bool, BrokerError> {
    let names: Vec<_> = declared.iter().map(|entry| entry.name.clone()).collect();
    let documents = store.document(Space::Schedules, &names).await?;
    let mut missing: Vec<_> = declared.iter().zip(documents).collect();
    missing.retain(|(_, document)| document.is_none());
    if missing.is_empty() {
        return Ok(false);
    }
    let names = missing.iter().map(|(entry, _)| entry::removal(&entry.name));
    let removals = Removals::read(store, &names.collect::<Vec<_>>()).await?;
    let (mut sets, mut added) = (Vec::new(), Vec::new());
    for (entry, _) in missing {
        let removal = entry::removal(&entry.name);
        if removals.has(&removal) {
            found.removed.push(entry.name.clone());
        } else {
            let add = entry::added(entry)?;
            let mark = declared::new_mark(SCHEDULES)?;
            sets.push(vec![add, removals.still_none(removal), mark]);
            added.push(&entry.name);
        }
    }
    if added.is_empty() {
        return Ok(false);
    }
    let swapped = store.swap(sets).await?;
    let added = added.into_iter().zip(swapped);
    let restored = added.filter_map(|(name, swapped)| swapped.is_done.then(|| name.clone()));
    found.restored.extend(restored);
    Ok(true)
}
