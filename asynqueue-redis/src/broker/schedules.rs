//! Schedule entries: one HASH for all, in a slot of its own.

use async_trait::async_trait;
use asynqueue_core::{
    Broker, BrokerError, Conflict, Envelope, Fire, Name, NewTask, ScheduleEntry, Schedules, TaskId,
    Timestamp, When,
};
use bytes::Bytes;
use redis::Value;
use serde::{Deserialize, Serialize};

use super::RedisBroker;
use crate::{reply, script};

/// An entry as it is kept: a MessagePack map.
#[derive(Serialize, Deserialize)]
struct Stored {
    rule: String,
    next: Option<Timestamp>,
    paused: bool,
    queue: Name,
    id: TaskId,
    task: Bytes,
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
        })
    }

    fn to_bytes(&self) -> Result<Vec<u8>, BrokerError> {
        rmp_serde::to_vec_named(self).map_err(|error| BrokerError::Protocol(error.to_string()))
    }

    fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, BrokerError> {
        rmp_serde::from_slice(bytes)
            .map_err(|error| BrokerError::Protocol(format!("schedule entry `{name}`: {error}")))
    }
}

#[async_trait]
impl Schedules for RedisBroker {
    async fn put_schedules(&self, entries: Vec<ScheduleEntry>) -> Result<(), BrokerError> {
        self.link().open_or_closed()?;
        if entries.is_empty() {
            return Ok(());
        }
        let mut command = redis::cmd("HSET");
        command.arg(self.schedules_key());
        for entry in &entries {
            command
                .arg(entry.name.as_str())
                .arg(Stored::of(entry).to_bytes()?);
        }
        self.command(&command).await.map(drop)
    }

    async fn remove_schedules(&self, names: &[Name]) -> Result<Vec<bool>, BrokerError> {
        self.link().open_or_closed()?;
        let mut removed = Vec::with_capacity(names.len());
        for name in names {
            let mut command = redis::cmd("HDEL");
            command.arg(self.schedules_key()).arg(name.as_str());
            removed.push(self.command(&command).await? == Value::Int(1));
        }
        Ok(removed)
    }

    async fn schedules(&self) -> Result<Vec<ScheduleEntry>, BrokerError> {
        self.link().open_or_closed()?;
        let mut command = redis::cmd("HGETALL");
        command.arg(self.schedules_key());
        let pairs: Vec<(Value, Value)> = match self.command(&command).await? {
            Value::Map(pairs) => pairs,
            other => {
                let mut parts = reply::array(other)?.into_iter();
                std::iter::from_fn(|| Some((parts.next()?, parts.next()?))).collect()
            }
        };
        let mut entries = Vec::with_capacity(pairs.len());
        for (name, bytes) in pairs {
            let name = reply::text(name)?;
            entries.push(Stored::from_bytes(&name, &reply::bytes(bytes)?)?.entry(&name)?);
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    async fn fire(&self, ticks: Vec<Fire>) -> Result<Vec<Result<bool, Conflict>>, BrokerError> {
        self.link().open_or_closed()?;
        let mut fired = Vec::with_capacity(ticks.len());
        for tick in ticks {
            fired.push(self.fire_one(tick).await?);
        }
        Ok(fired)
    }
}

impl RedisBroker {
    async fn fire_one(&self, fire: Fire) -> Result<Result<bool, Conflict>, BrokerError> {
        let Fire {
            name,
            tick,
            envelope,
            next,
        } = fire;
        if self.entry_at(&name, tick).await?.is_none() {
            return Ok(Ok(false));
        }
        let task = NewTask {
            envelope,
            when: When::Now,
        };
        let enqueued = self.enqueue(vec![task]).await?.pop().unwrap_or(Ok(()));
        // Until it has moved on, by us or another: it may be changed in between.
        while let Some((seen, mut entry)) = self.entry_at(&name, tick).await? {
            entry.next = next;
            let key = self.schedules_key();
            let mut call = script::TICK.call(&[&key]);
            call.arg(name.as_str()).arg(seen).arg(entry.to_bytes()?);
            if call.send(self.link()).await? == Value::Int(1) {
                return Ok(enqueued.map(|()| true));
            }
        }
        // Another has moved it on: with the task that is there already, if there is one.
        Ok(Ok(enqueued.is_ok()))
    }

    /// The entry, as its bytes too, if this is its next tick.
    async fn entry_at(
        &self,
        name: &Name,
        tick: Timestamp,
    ) -> Result<Option<(Vec<u8>, Stored)>, BrokerError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.schedules_key()).arg(name.as_str());
        let Some(bytes) = reply::some_bytes(self.command(&command).await?)? else {
            return Ok(None);
        };
        let entry = Stored::from_bytes(name, &bytes)?;
        Ok((entry.next == Some(tick)).then_some((bytes, entry)))
    }
}
