//! Schedule entries: a document each, one for its history, and one for each removal that is remembered.

use std::collections::HashSet;

use async_trait::async_trait;

use super::{
    MAX_CHUNK,
    declared::{self, Removals, SCHEDULES},
    entry::{self, Kept},
    fire, nothing,
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
        // Until none is missing: then it is the state of the mark that was read before.
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
        let asked = std::slice::from_ref(name);
        let mut found = self.document(Space::Schedules, asked).await?;
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
        let mut asked = limit;
        // As long as some cannot be read, there may be others behind them.
        loop {
            let found = self.due(Space::Schedules, asked).await?;
            let entries: Vec<_> = found.documents.iter().filter_map(readable).collect();
            let is_all = found.documents.len() < asked;
            if is_all || entries.len() >= limit {
                let left_out = entries.get(limit).and_then(|entry| entry.next);
                return Ok(DueSchedules {
                    entries: entries.into_iter().take(limit).collect(),
                    next_due: left_out.or(found.next_due),
                    now: found.now,
                });
            }
            let unreadable = asked - entries.len();
            asked = limit.saturating_add(unreadable);
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

/// An entry, unless it cannot be read: one that a later version has written hides no other.
fn readable((name, document): &(Name, Document)) -> Option<ScheduleEntry> {
    let entry = Kept::read(name, document).and_then(|kept| kept.entry(name));
    let left_out = |error: &BrokerError| tracing::warn!(%error, "a schedule entry is left out");
    entry.inspect_err(left_out).ok()
}

/// What an entry is to become.
enum Want<'a> {
    /// What takes the place of what was seen.
    Swap(&'a ScheduleSwap),
    /// This, whatever it is now.
    Put(&'a ScheduleEntry),
    /// Gone, whatever it is now.
    Remove,
}

/// What is to be done for that with an entry as it is.
enum Plan {
    /// Nothing: this is the answer.
    Answer(bool),
    Try {
        set: Vec<DocumentSwap>,
        /// The answer when it was made.
        done: bool,
        /// The ticks that are remembered of an entry that leaves its queue.
        forgotten: Option<(Name, Name)>,
    },
}

/// Changes entries, each in one step with all that goes with it. Answers each in the order given: a swap whether it was made, a
/// removal whether there was an entry.
///
/// An entry that cannot be read has not been seen, and is not replaced.
async fn change_entries<S: Store>(
    store: &S,
    changes: &[(&Name, Want<'_>)],
) -> Result<Vec<bool>, BrokerError> {
    if changes.is_empty() {
        return nothing(store).await;
    }
    let mut answers = Vec::with_capacity(changes.len());
    let mut forgotten = Vec::new();
    let mut changes = changes;
    let has_removed = changes.iter().any(|(_, want)| want.removes());
    while !changes.is_empty() {
        // An entry that is named twice is looked at twice: as it is after the first time.
        let mut names = HashSet::new();
        let some = changes.iter().take(MAX_CHUNK);
        let count = some.take_while(|(name, _)| names.insert(name)).count();
        let (chunk, rest) = changes.split_at(count);
        answers.extend(change_chunk(store, chunk, &mut forgotten).await?);
        changes = rest;
    }
    if !forgotten.is_empty()
        && let Err(error) = store.forget_ticks(&forgotten).await
    {
        // What is left of them does no harm.
        tracing::debug!(%error, "the last ticks of schedule entries that are gone were not forgotten");
    }
    if has_removed {
        declared::forget_old_removals(store).await;
    }
    Ok(answers)
}

/// Changes entries of different names.
async fn change_chunk<S: Store>(
    store: &S,
    changes: &[(&Name, Want<'_>)],
    forgotten: &mut Vec<(Name, Name)>,
) -> Result<Vec<bool>, BrokerError> {
    let mut answers = vec![None; changes.len()];
    loop {
        let is_open = |place: &usize| answers[*place].is_none();
        let open: Vec<_> = (0..changes.len()).filter(is_open).collect();
        if open.is_empty() {
            return Ok(answers.into_iter().flatten().collect());
        }
        let names: Vec<_> = open.iter().map(|place| changes[*place].0.clone()).collect();
        let found = store.document(Space::Schedules, &names).await?;
        let (mut sets, mut tried) = (Vec::new(), Vec::new());
        for (place, document) in open.into_iter().zip(found) {
            let (name, want) = &changes[place];
            match plan(store.now(), name, want, document)? {
                Plan::Answer(answer) => answers[place] = Some(answer),
                Plan::Try {
                    set,
                    done,
                    forgotten,
                } => {
                    sets.push(set);
                    tried.push((place, done, forgotten));
                }
            }
        }
        if sets.is_empty() {
            continue;
        }
        for ((place, done, ticks), swapped) in tried.into_iter().zip(store.swap(sets).await?) {
            if swapped.is_done {
                answers[place] = Some(done);
                forgotten.extend(ticks);
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
                return Ok(Plan::Answer(false));
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
        return Ok(Plan::Try {
            set,
            done: was_there || matches!(want, Want::Swap(..)),
            forgotten: kept.and_then(Result::ok).map(|kept| ticks_of(name, &kept)),
        });
    };
    let Some(kept) = kept.transpose()? else {
        let removal = declared::forget_removal(entry::removal(name));
        return Ok(Plan::Try {
            set: vec![entry::added(new)?, removal, declared::new_mark(SCHEDULES)?],
            done: true,
            forgotten: None,
        });
    };
    let leaves = kept.stored.known.queue != new.template.queue;
    Ok(Plan::Try {
        set: vec![kept.replaced_by(new)?],
        done: true,
        forgotten: leaves.then(|| ticks_of(name, &kept)),
    })
}

/// The queue that remembers an entry's last tick, and the guard that it is of.
fn ticks_of(name: &Name, kept: &Kept) -> (Name, Name) {
    (kept.stored.known.queue.clone(), kept.guard(name))
}

/// Adds those of the entries that are missing. Returns whether any was.
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
