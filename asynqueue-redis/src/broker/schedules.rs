//! Schedule entries: one HASH for all, in a slot of its own with the order in which they are due.

use std::time::Duration;

use async_trait::async_trait;
use asynqueue_core::{
    Broker, BrokerError, Conflict, DueSchedules, Envelope, Fire, FireOutcome, MissedTicks, Name,
    NewTask, ScheduleEntry, ScheduleEvent, Schedules, TaskId, Tick, Timestamp, When,
};
use bytes::Bytes;
use redis::Value;
use serde::{Deserialize, Serialize};

use super::{
    RedisBroker,
    enqueue::Guard,
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
        let strange = |error| BrokerError::Protocol(format!("schedule entry `{name}`: {error}"));
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
    async fn put_schedules(&self, entries: Vec<ScheduleEntry>) -> Result<(), BrokerError> {
        self.link().open_or_closed()?;
        let keys = self.schedule_keys();
        for chunk in entries.chunks(MAX_CHUNK) {
            let mut call = script::PUT_SCHEDULES.call(&[&keys.entries, &keys.due]);
            for entry in chunk {
                let stored = Stored::of(entry);
                call.arg(entry.name.as_str())
                    .arg(stored.due())
                    .arg(encode(&stored)?);
            }
            call.send(self.link()).await?;
        }
        Ok(())
    }

    async fn remove_schedules(&self, names: &[Name]) -> Result<Vec<bool>, BrokerError> {
        self.link().open_or_closed()?;
        let keys = self.schedule_keys();
        let mut removed = Vec::with_capacity(names.len());
        for name in names {
            // The entry last: whoever is cut off in between may do it again.
            let mut due = redis::cmd("ZREM");
            due.arg(&keys.due).arg(name.as_str());
            self.command(&due).await?;
            let mut events = redis::cmd("UNLINK");
            events.arg(keys.events(name));
            self.command(&events).await?;
            let mut entry = redis::cmd("HDEL");
            entry.arg(&keys.entries).arg(name.as_str());
            removed.push(self.command(&entry).await? == Value::Int(1));
        }
        Ok(removed)
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
        let keys = self.schedule_keys();
        let mut call = script::DUE_SCHEDULES.call(&[&keys.entries, &keys.due]);
        call.arg(self.script_clock()).arg(limit.min(MAX_CHUNK));
        let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
        let mut due = DueSchedules {
            next_due: reply::some_time(reply::next(&mut answer)?)?,
            ..DueSchedules::default()
        };
        while let (Some(name), Some(bytes)) = (answer.next(), answer.next()) {
            let name = reply::text(name)?;
            due.entries.extend(readable(&name, &reply::bytes(bytes)?));
        }
        Ok(due)
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
        events.map(|event| decode(&reply::bytes(event)?)).collect()
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
    /// Enqueues, and then moves the entry on. Whoever dies in between leaves a tick to be fired again: the queue, which
    /// remembers the last tick of each entry, takes its task once.
    async fn fire_one(&self, fire: Fire) -> Result<Result<bool, Conflict>, BrokerError> {
        if self.entry_at(&fire.name, fire.tick).await?.is_none() {
            return Ok(Ok(false));
        }
        let (fired, outcome) = match fire.what {
            Tick::Skip(reason) => (Ok(true), Some(FireOutcome::Skipped(reason))),
            Tick::Enqueue(envelope, at) => {
                let enqueued = FireOutcome::Enqueued(envelope.task_ref());
                let when = When::At(at);
                let guard = Guard {
                    entry: &fire.name,
                    tick: fire.tick,
                };
                match self.accept_tick(NewTask { envelope, when }, guard).await? {
                    Ok(true) => (Ok(true), Some(enqueued)),
                    Ok(false) => (Ok(false), None),
                    Err(conflict) => {
                        let reason = conflict.to_string();
                        (Err(conflict), Some(FireOutcome::Refused(reason)))
                    }
                }
            }
        };
        let event = outcome.map(|outcome| ScheduleEvent {
            tick: fire.tick,
            at: self.now(),
            outcome,
        });
        let event = event.as_ref().map(encode).transpose()?.unwrap_or_default();
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
            let mut call = script::TICK.call(&[&keys.entries, &keys.due, &keys.events(name)]);
            call.arg(name.as_str())
                .arg(seen)
                .arg(encode(&entry)?)
                .arg(entry.due())
                .arg(event)
                .arg(ScheduleEvent::KEPT);
            if call.send(self.link()).await? == Value::Int(1) {
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
    decode(bytes)
        .map_err(|error| BrokerError::Protocol(format!("schedule entry `{name}`: {error}")))
}
