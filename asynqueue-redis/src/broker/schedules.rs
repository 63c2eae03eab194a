//! Schedule entries: one HASH for all, in a slot of its own with the order in which they are due.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use asynqueue_core::{
    Broker, BrokerError, Conflict, DueSchedules, Envelope, Fire, FireOutcome, MissedTicks, Name,
    NewTask, REMOVALS_KEPT, Restored, ScheduleEntry, ScheduleEvent, ScheduleSwap, Schedules,
    StateMark, TaskId, Tick, TickGuard, Timestamp, When,
};
use bytes::Bytes;
use redis::Value;
use serde::{Deserialize, Serialize};

use super::{
    RedisBroker,
    fleet::{decode, encode},
    millis,
};
use crate::{keys::ScheduleKeys, reply, script};

/// An entry as it is kept: a MessagePack map.
#[derive(Serialize, Deserialize)]
struct Stored {
    rule: String,
    next: Option<Timestamp>,
    paused: bool,
    queue: Name,
    id: TaskId,
    task: Bytes,
    #[serde(default)]
    missed: MissedTicks,
    /// In milliseconds.
    #[serde(default)]
    jitter: u64,
    #[serde(default)]
    source: String,
}

impl Stored {
    fn of(entry: &ScheduleEntry) -> Self {
        Self {
            rule: entry.rule.clone(),
            next: entry.next,
            paused: entry.paused,
            queue: entry.template.queue.clone(),
            id: entry.template.id.clone(),
            task: entry.template.to_bytes().into(),
            missed: entry.missed,
            jitter: millis(entry.jitter),
            source: entry.source.clone(),
        }
    }

    fn entry(self, name: &str) -> Result<ScheduleEntry, BrokerError> {
        let strange = |error| {
            BrokerError::protocol(format!("schedule entry `{name}`: {error}")).caused_by(error)
        };
        Ok(ScheduleEntry {
            name: name.into(),
            rule: self.rule,
            template: Envelope::from_bytes(self.queue, self.id, &self.task).map_err(strange)?,
            next: self.next,
            paused: self.paused,
            missed: self.missed,
            jitter: Duration::from_millis(self.jitter),
            source: self.source,
        })
    }

    /// When it is due, for scripts: empty if it is not.
    fn due(&self) -> String {
        let next = self.next.filter(|_| !self.paused);
        next.map_or_else(String::new, |next| next.as_millis().to_string())
    }
}

#[async_trait]
impl Schedules for RedisBroker {
    async fn swap_schedules(&self, swaps: Vec<ScheduleSwap>) -> Result<Vec<bool>, BrokerError> {
        self.link().open_or_closed()?;
        let mut swapped = Vec::with_capacity(swaps.len());
        let mut swaps = swaps.as_slice();
        while !swaps.is_empty() {
            // An entry that is named twice is compared twice: with what it is after the first time.
            let mut names = HashSet::new();
            let some = swaps.iter().take(MAX_CHUNK);
            let count = some.take_while(|swap| names.insert(&swap.name)).count();
            swapped.extend(self.swap_chunk(&swaps[..count]).await?);
            swaps = &swaps[count..];
        }
        Ok(swapped)
    }

    async fn remove_schedules(&self, names: &[Name]) -> Result<Vec<bool>, BrokerError> {
        self.link().open_or_closed()?;
        let keys = self.schedule_keys();
        let mut removed = Vec::with_capacity(names.len());
        for name in names {
            let events = keys.events(name);
            let lane = self.0.changes.next();
            let args = script::remove_schedule::Args {
                not_after: self.script_clock(),
                lane: lane.name(),
                number: lane.number(),
                removals_kept: REMOVALS_KEPT.as_millis() as u64,
                new_mark: StateMark::generate().0,
                name: name.as_str(),
            };
            let keys = script::remove_schedule::Keys {
                entries: &keys.entries,
                due: &keys.due,
                mark: &keys.mark,
                removed: &keys.removed,
                events: &events,
                lanes: &keys.lanes,
            };
            let call = script::remove_schedule::call(keys, args);
            let entry = reply::bytes(call.send(self.link()).await?)?;
            lane.answered();
            if let Ok(entry) = read(name, &entry) {
                self.forget_fired(name, &entry.queue).await;
            }
            removed.push(!entry.is_empty());
        }
        Ok(removed)
    }

    async fn schedules_mark(&self) -> Result<StateMark, BrokerError> {
        self.link().open_or_closed()?;
        let mut command = redis::cmd("GET");
        command.arg(self.schedule_keys().mark);
        match self.command(&command).await? {
            Value::Nil => Ok(StateMark::default()),
            mark => reply::number(mark).map(StateMark),
        }
    }

    async fn restore_schedules(
        &self,
        declared: Vec<ScheduleEntry>,
    ) -> Result<Restored<Name>, BrokerError> {
        self.link().open_or_closed()?;
        let mut found = Restored::default();
        // The state of the first call: if it is another by the last, it is compared again.
        for chunk in declared.chunks(MAX_CHUNK) {
            let mark = self.restore_chunk(chunk, &mut found).await?;
            if found.mark == StateMark::default() {
                found.mark = mark;
            }
        }
        Ok(found)
    }

    async fn schedule(&self, name: &Name) -> Result<Option<ScheduleEntry>, BrokerError> {
        self.link().open_or_closed()?;
        let mut command = redis::cmd("HGET");
        command.arg(self.schedule_keys().entries).arg(name.as_str());
        match reply::some_bytes(self.command(&command).await?)? {
            Some(bytes) => read(name, &bytes)?.entry(name).map(Some),
            None => Ok(None),
        }
    }

    async fn schedules(&self) -> Result<Vec<ScheduleEntry>, BrokerError> {
        self.link().open_or_closed()?;
        let stored = self.hash(&self.schedule_keys().entries).await?;
        let entries = stored.into_iter();
        let mut entries: Vec<_> = entries
            .filter_map(|(name, bytes)| readable(&name, &bytes))
            .collect();
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    async fn due_schedules(&self, limit: usize) -> Result<DueSchedules, BrokerError> {
        self.link().open_or_closed()?;
        let mut due = DueSchedules::default();
        let mut passed = 0;
        loop {
            let left = limit.saturating_sub(due.entries.len()).min(MAX_CHUNK);
            let found = self.due_after(passed, left, &mut due).await?;
            passed += found;
            // As long as some were passed over that cannot be read, there may be others behind them.
            if found < left || due.entries.len() >= limit || left == 0 {
                return Ok(due);
            }
        }
    }

    async fn fire(&self, ticks: Vec<Fire>) -> Result<Vec<Result<bool, Conflict>>, BrokerError> {
        self.link().open_or_closed()?;
        let mut fired = Vec::with_capacity(ticks.len());
        for tick in ticks {
            fired.push(self.fire_one(tick).await?);
        }
        Ok(fired)
    }

    async fn schedule_events(
        &self,
        name: &Name,
        limit: usize,
    ) -> Result<Vec<ScheduleEvent>, BrokerError> {
        self.link().open_or_closed()?;
        let mut command = redis::cmd("LRANGE");
        let last = limit.min(ScheduleEvent::KEPT) as i64 - 1;
        if last < 0 {
            return Ok(Vec::new());
        }
        command
            .arg(self.schedule_keys().events(name))
            .arg(0)
            .arg(last);
        let events = reply::array(self.command(&command).await?)?.into_iter();
        let events = events.map(|event| decode(&reply::bytes(event)?));
        // One that a later version has written does not hide the others.
        let left_out = |error: &BrokerError| tracing::warn!(entry = %name, %error, "a schedule event is left out");
        let readable = events.filter_map(|event| event.inspect_err(left_out).ok());
        Ok(readable.collect())
    }
}

/// An entry, unless it cannot be read: one that a later version has written keeps nobody from all others.
fn readable(name: &str, bytes: &[u8]) -> Option<ScheduleEntry> {
    let entry = read(name, bytes).and_then(|stored| stored.entry(name));
    let left_out = |error: &BrokerError| tracing::warn!(%error, "a schedule entry is left out");
    entry.inspect_err(left_out).ok()
}

/// The most entries in one call.
const MAX_CHUNK: usize = 500;

impl RedisBroker {
    /// Asks for entries by name, and then sends those that are missing. Returns the mark before that: what another has changed in
    /// between is found when the mark is compared again.
    async fn restore_chunk(
        &self,
        declared: &[ScheduleEntry],
        found: &mut Restored<Name>,
    ) -> Result<StateMark, BrokerError> {
        let names = declared.iter().map(|entry| (entry, None));
        let (mark, answers) = self.restore_call(names.collect()).await?;
        let mut missing = Vec::new();
        for (entry, answer) in declared.iter().zip(answers) {
            match answer.as_str() {
                "m" => missing.push((entry, Some(Stored::of(entry)))),
                "r" => found.removed.push(entry.name.clone()),
                _ => {}
            }
        }
        if !missing.is_empty() {
            let whole = missing
                .iter()
                .map(|(entry, stored)| (*entry, stored.as_ref()));
            let (_, answers) = self.restore_call(whole.collect()).await?;
            for ((ScheduleEntry { name, .. }, _), answer) in missing.iter().zip(answers) {
                match answer.as_str() {
                    "y" => found.restored.push(name.clone()),
                    "r" => found.removed.push(name.clone()),
                    _ => {}
                }
            }
        }
        Ok(mark)
    }

    async fn restore_call(
        &self,
        entries: Vec<(&ScheduleEntry, Option<&Stored>)>,
    ) -> Result<(StateMark, Vec<String>), BrokerError> {
        let args = script::restore_schedules::Args {
            not_after: self.script_clock(),
            removals_kept: REMOVALS_KEPT.as_millis() as u64,
            new_mark: StateMark::generate().0,
        };
        let mut call = script::restore_schedules::call(&self.schedule_keys(), args);
        for (entry, stored) in entries {
            call.row(script::restore_schedules::Entry {
                name: entry.name.as_str(),
                entry: stored.map(encode).transpose()?.unwrap_or_default(),
                due_at: stored.map(Stored::due).unwrap_or_default(),
            });
        }
        let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
        let mark = StateMark(reply::number(reply::next(&mut answer)?)?);
        let answers = reply::array(reply::next(&mut answer)?)?.into_iter();
        Ok((mark, answers.map(reply::text).collect::<Result<_, _>>()?))
    }

    /// Makes changes of entries of different names.
    async fn swap_chunk(&self, swaps: &[ScheduleSwap]) -> Result<Vec<bool>, BrokerError> {
        let keys = self.schedule_keys();
        let mut kept = redis::cmd("HMGET");
        kept.arg(&keys.entries);
        for swap in swaps {
            kept.arg(swap.name.as_str());
        }
        let kept = reply::array(self.command(&kept).await?)?.into_iter();
        let events: Vec<_> = swaps.iter().map(|swap| keys.events(&swap.name)).collect();
        let mut asked = Vec::new();
        let (mut rows, mut asked_events) = (Vec::new(), Vec::new());
        for (place, (swap, kept)) in swaps.iter().zip(kept).enumerate() {
            let kept = reply::some_bytes(kept)?;
            let seen = kept
                .as_deref()
                .map(|bytes| read(&swap.name, bytes).and_then(|stored| stored.entry(&swap.name)));
            // One that cannot be read has not been seen.
            if seen.transpose().is_ok_and(|seen| seen == swap.seen) {
                asked.push(place);
                asked_events.push(&*events[place]);
                let new = swap.new.as_ref().map(Stored::of);
                rows.push(script::swap_schedules::Entry {
                    name: swap.name.as_str(),
                    seen: kept.unwrap_or_default(),
                    new: new.as_ref().map(encode).transpose()?.unwrap_or_default(),
                    due_at: new.map(|new| new.due()).unwrap_or_default(),
                });
            }
        }
        let mut swapped = vec![false; swaps.len()];
        if asked.is_empty() {
            return Ok(swapped);
        }
        let lane = self.0.changes.next();
        let args = script::swap_schedules::Args {
            not_after: self.script_clock(),
            lane: lane.name(),
            number: lane.number(),
            removals_kept: REMOVALS_KEPT.as_millis() as u64,
            new_mark: StateMark::generate().0,
        };
        let keys = script::swap_schedules::Keys {
            entries: &keys.entries,
            due: &keys.due,
            mark: &keys.mark,
            removed: &keys.removed,
            lanes: &keys.lanes,
            events: &asked_events,
        };
        let mut call = script::swap_schedules::call(keys, args);
        for row in rows {
            call.row(row);
        }
        let answers = reply::text(call.send(self.link()).await?)?;
        lane.answered();
        for (place, answer) in asked.into_iter().zip(answers.chars()) {
            swapped[place] = answer == 'y';
            if let Some(entry) = swaps[place].left().filter(|_| swapped[place]) {
                self.forget_fired(&entry.name, &entry.template.queue).await;
            }
        }
        Ok(swapped)
    }

    /// Forgets the last tick of an entry that has left a queue. What is left of it does no harm, so this may fail.
    async fn forget_fired(&self, name: &Name, queue: &Name) {
        let guards = [(queue.clone(), name.clone())];
        if let Err(error) = self.forget_guards(&guards).await {
            tracing::warn!(entry = %name, %queue, %error, "the last tick of a schedule entry that has left its queue was not forgotten");
        }
    }

    /// Adds up to `limit` of the entries that are due, after as many as were passed. Returns how many it has looked at.
    async fn due_after(
        &self,
        passed: usize,
        limit: usize,
        due: &mut DueSchedules,
    ) -> Result<usize, BrokerError> {
        let args = script::due_schedules::Args {
            not_after: self.script_clock(),
            limit,
            passed,
        };
        let call = script::due_schedules::call(&self.schedule_keys(), args);
        let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
        due.next_due = reply::some_time(reply::next(&mut answer)?)?;
        due.now = reply::time(&reply::text(reply::next(&mut answer)?)?)?;
        self.note_time(due.now);
        let mut found = 0;
        while let (Some(name), Some(bytes)) = (answer.next(), answer.next()) {
            let name = reply::text(name)?;
            due.entries.extend(readable(&name, &reply::bytes(bytes)?));
            found += 1;
        }
        Ok(found)
    }

    /// Enqueues, and then moves the entry on. Whoever dies in between leaves a tick to be fired again: the queue, which
    /// remembers the last tick of each entry, takes its task once.
    async fn fire_one(&self, fire: Fire) -> Result<Result<bool, Conflict>, BrokerError> {
        if self.entry_at(&fire.name, fire.tick).await?.is_none() {
            return Ok(Ok(false));
        }
        let (fired, outcome) = match fire.what {
            Tick::Skip(reason) => (Ok(true), FireOutcome::Skipped(reason)),
            Tick::Enqueue(envelope, at) => {
                let enqueued = FireOutcome::Enqueued(envelope.task_ref());
                let mut task = NewTask::new(envelope, When::At(at));
                task.tick = Some(TickGuard {
                    guard: fire.name.clone(),
                    tick: fire.tick,
                });
                let answers = self.accept(vec![task], self.0.durability).await?;
                let answer = answers.into_iter().next().unwrap_or(Ok(()));
                match answer {
                    Ok(()) => (Ok(true), enqueued),
                    // By another, if not by this one: the scheduler that moves the entry on notes it.
                    Err(Conflict::Fired { .. }) => (Ok(false), enqueued),
                    Err(conflict) => {
                        let reason = conflict.to_string();
                        (Err(conflict), FireOutcome::Refused(reason))
                    }
                }
            }
        };
        let event = encode(&ScheduleEvent {
            tick: fire.tick,
            at: self.now(),
            outcome,
        })?;
        let has_moved = self
            .move_on(&fire.name, fire.tick, fire.next, &event)
            .await?;
        // Where another has moved it on, what stood in the way was its doing.
        Ok(fired.or_else(|conflict| if has_moved { Err(conflict) } else { Ok(false) }))
    }

    /// Sets an entry's next tick. Returns whether it was done here, and not by another.
    async fn move_on(
        &self,
        name: &Name,
        tick: Timestamp,
        next: Option<Timestamp>,
        event: &[u8],
    ) -> Result<bool, BrokerError> {
        let keys = self.schedule_keys();
        // Until it has moved on: it may be changed in between.
        while let Some((seen, mut entry)) = self.entry_at(name, tick).await? {
            entry.next = next;
            let events = keys.events(name);
            let lane = self.0.changes.next();
            let args = script::tick::Args {
                not_after: self.script_clock(),
                lane: lane.name(),
                number: lane.number(),
                name: name.as_str(),
                seen_entry: seen,
                new: encode(&entry)?,
                due_at: entry.due(),
                event,
                events_kept: ScheduleEvent::KEPT,
            };
            let keys = script::tick::Keys {
                entries: &keys.entries,
                due: &keys.due,
                events: &events,
                lanes: &keys.lanes,
            };
            let call = script::tick::call(keys, args);
            let answer = reply::text(call.send(self.link()).await?)?;
            lane.answered();
            if answer == "y" {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The entry, as its bytes too, if this is its next tick.
    async fn entry_at(
        &self,
        name: &Name,
        tick: Timestamp,
    ) -> Result<Option<(Vec<u8>, Stored)>, BrokerError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.schedule_keys().entries).arg(name.as_str());
        let Some(bytes) = reply::some_bytes(self.command(&command).await?)? else {
            return Ok(None);
        };
        let entry = read(name, &bytes)?;
        let is_due = entry.next == Some(tick) && !entry.paused;
        Ok(is_due.then_some((bytes, entry)))
    }

    fn schedule_keys(&self) -> ScheduleKeys {
        ScheduleKeys::new(&self.0.prefix)
    }
}

fn read(name: &str, bytes: &[u8]) -> Result<Stored, BrokerError> {
    decode(bytes).map_err(|error| {
        BrokerError::protocol(format!("schedule entry `{name}`: {error}")).caused_by(error)
    })
}

/// Whether a stored entry may put its tasks into this queue. One that a later version has written may.
pub(super) fn may_fire_in(name: &Name, bytes: &[u8], queue: &Name) -> bool {
    read(name, bytes).map_or(true, |entry| entry.queue == *queue)
}
