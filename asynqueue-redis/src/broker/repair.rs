//! Finding what does not fit together, as after an eviction, a restored backup or a failover, and putting it right.
//!
//! In each task's life there is one envelope and one entry that says where it is, and scripts change both in one step.
//! So counting them is enough to know that all is well, and only where the counts differ is everything read, in chunks.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use asynqueue_core::{BrokerError, Envelope, Failure, FailureKind, TaskId};
use redis::Value;

use super::{Broker, RedisBroker, queue::Queue};
use crate::{reply, script};

/// How often each process looks after a queue.
const INTERVAL: Duration = Duration::from_secs(20);

/// How many entries are read at a time.
const CHUNK: usize = 500;

/// Lanes that were not used for this long belong to processes that are gone.
const LANE_AGE: Duration = Duration::from_secs(24 * 3600);

/// The most names of workers that a queue keeps before those without a lease are forgotten.
const MAX_WORKERS: usize = 64;

impl RedisBroker {
    /// Looks after a queue, if it is time to.
    pub(super) async fn repair_now_and_then(&self, queue: &Queue) -> Result<(), BrokerError> {
        {
            let mut repaired = queue.repaired.lock();
            if repaired.is_some_and(|last| last.elapsed() < INTERVAL) {
                return Ok(());
            }
            *repaired = Some(Instant::now());
        }
        self.repair(queue).await
    }

    async fn repair(&self, queue: &Queue) -> Result<(), BrokerError> {
        let mut found = 0;
        if !self.adds_up(queue).await? {
            found += self.repair_entries(queue).await?;
            found += self.archive_orphans(queue).await?;
        }
        found += self.repair_locks(queue).await?;
        self.forget_old(queue).await?;
        if found > 0 {
            tracing::error!(queue = %queue.name, found, "tasks, entries or locks did not fit together and were put right; \
                was something evicted, or a backup restored?");
        }
        Ok(())
    }

    /// Whether there are as many tasks as entries.
    async fn adds_up(&self, queue: &Queue) -> Result<bool, BrokerError> {
        let keys = &queue.keys;
        let call = script::CHECK.call(&[
            &keys.tasks,
            &keys.pending,
            &keys.meta,
            &keys.gone,
            &keys.stats,
            &keys.aggregating,
            &keys.grouped,
            &keys.groups,
            &keys.leases,
            &keys.urgent,
            &keys.active,
            &keys.scheduled,
            &keys.retry,
            &keys.archived,
            &keys.completed,
        ]);
        let counts = reply::array(call.send(self.link()).await?)?;
        if counts.first() != Some(&Value::Int(0)) {
            // It may have been deleted, and used again by one who did not know.
            self.list_queue(queue).await?;
        }
        Ok(counts.first() == counts.get(1))
    }

    /// Removes entries without a task.
    async fn repair_entries(&self, queue: &Queue) -> Result<u64, BrokerError> {
        let keys = &queue.keys;
        let mut found = 0;
        for list in sorted_sets(queue) {
            let begins = if *list == keys.active { 17 } else { 1 };
            let mut entries = Entries::new("ZRANGE", list);
            while let Some(chunk) = entries.next(self).await? {
                let mut call = script::MISSING.call(&[&keys.tasks, list, &keys.stats]);
                call.arg(begins).arg(chunk);
                found += reply::number(call.send(self.link()).await?)?;
            }
        }
        let mut grouped = Fields::new(&keys.aggregating);
        while let Some(chunk) = grouped.next(self).await? {
            let mut call = script::MISSING_GROUPED.call(&[
                &keys.aggregating,
                &keys.grouped,
                &keys.groups,
                &keys.tasks,
                &keys.stats,
            ]);
            for (id, _) in chunk {
                call.arg(id);
            }
            found += reply::number(call.send(self.link()).await?)?;
        }
        let mut entries = Entries::new("LRANGE", &keys.pending);
        while let Some(chunk) = entries.next(self).await? {
            let mut call = script::MISSING_PENDING.call(&[
                &keys.tasks,
                &keys.pending,
                &keys.gone,
                &keys.meta,
                &keys.stats,
            ]);
            call.arg(chunk);
            found += reply::number(call.send(self.link()).await?)?;
        }
        Ok(found)
    }

    /// Archives tasks without an entry. Nobody knows whether they have run, so none is run again unasked.
    async fn archive_orphans(&self, queue: &Queue) -> Result<u64, BrokerError> {
        let keys = &queue.keys;
        let mut orphans = self.task_ids(queue).await?;
        // After the tasks, and pending before active: what moves meanwhile is met all the same, or is looked up below.
        let mut grouped = Fields::new(&keys.aggregating);
        while let Some(chunk) = grouped.next(self).await? {
            for (id, _) in chunk {
                orphans.remove(&*String::from_utf8_lossy(&id));
            }
        }
        let mut entries = Entries::new("LRANGE", &keys.pending);
        while let Some(chunk) = entries.next(self).await? {
            chunk.iter().for_each(|id| drop(orphans.take(id)));
        }
        for list in sorted_sets(queue) {
            let begins = if *list == keys.active { 16 } else { 0 };
            let mut entries = Entries::new("ZRANGE", list);
            while let Some(chunk) = entries.next(self).await? {
                let ids = chunk.iter().filter_map(|entry| entry.get(begins..));
                ids.for_each(|id| drop(orphans.take(id)));
            }
        }
        let orphans: Vec<_> = orphans.into_iter().collect();
        let mut found = 0;
        for chunk in orphans.chunks(10) {
            found += self.archive_chunk(queue, chunk).await?;
        }
        Ok(found)
    }

    async fn archive_chunk(&self, queue: &Queue, ids: &[String]) -> Result<u64, BrokerError> {
        let keys = &queue.keys;
        let mut call = script::ORPHANS.call(&[
            &keys.tasks,
            &keys.urgent,
            &keys.scheduled,
            &keys.retry,
            &keys.archived,
            &keys.completed,
            &keys.active,
            &keys.aggregating,
            &keys.pending,
            &keys.gone,
            &keys.stats,
            &keys.leases,
            &keys.meta,
        ]);
        call.arg(self.script_clock());
        let ids: Vec<_> = ids.iter().filter_map(|id| TaskId::new(id).ok()).collect();
        for found in self.look(queue, &ids).await?.into_iter().flatten() {
            let mut envelope = Envelope::clone(&found.envelope);
            envelope.push_failure(Failure {
                attempt: envelope.attempts,
                started: None,
                at: self.now(),
                kind: FailureKind::Other,
                message: "found in no state: Redis lost the entry that said where it was".into(),
                backtrace: None,
                worker: None,
            });
            call.arg(envelope.id.as_str())
                .arg(found.bytes)
                .arg(envelope.to_bytes());
        }
        reply::number(call.send(self.link()).await?)
    }

    async fn repair_locks(&self, queue: &Queue) -> Result<u64, BrokerError> {
        let keys = &queue.keys;
        let mut found = 0;
        let mut locks = Fields::new(&keys.locks);
        while let Some(chunk) = locks.next(self).await? {
            let mut call = script::OLD_LOCKS.call(&[&keys.locks, &keys.tasks, &keys.stats]);
            call.arg(self.script_clock()).arg(chunk);
            found += reply::number(call.send(self.link()).await?)?;
        }
        Ok(found)
    }

    /// Forgets who waited, sent changes and worked long ago.
    async fn forget_old(&self, queue: &Queue) -> Result<(), BrokerError> {
        let now = self.now();
        let is_over = |until: &[u8]| {
            let until = std::str::from_utf8(until)
                .ok()
                .and_then(|until| until.parse::<u64>().ok());
            until.is_some_and(|until| until < now.as_millis())
        };
        self.forget(&queue.keys.waiters, |_, until| is_over(until))
            .await?;
        let long_ago = now - LANE_AGE;
        let is_old = |last: &[u8]| {
            let time = last.split(|byte| *byte == b':').nth(1).unwrap_or_default();
            let time = std::str::from_utf8(time)
                .ok()
                .and_then(|time| time.parse::<u64>().ok());
            time.is_some_and(|time| time < long_ago.as_millis())
        };
        self.forget(&queue.keys.lanes, |_, last| is_old(last))
            .await?;
        self.forget_workers(queue).await
    }

    async fn forget_workers(&self, queue: &Queue) -> Result<(), BrokerError> {
        let keys = &queue.keys;
        let older = script::OLDER_WORKERS.call(&[&keys.active, &keys.meta]);
        older.send(self.link()).await?;
        let mut count = redis::cmd("HLEN");
        count.arg(&keys.workers);
        if reply::number(self.command(&count).await?)? as usize <= MAX_WORKERS {
            return Ok(());
        }
        let mut tags = HashSet::new();
        let mut leases = Entries::new("ZRANGE", &keys.active);
        while let Some(chunk) = leases.next(self).await? {
            tags.extend(
                chunk
                    .iter()
                    .filter_map(|lease| lease.get(..8).map(str::to_owned)),
            );
        }
        // One that leases again puts its name back, within a minute.
        let is_gone = |field: &[u8]| {
            let tag = std::str::from_utf8(field).ok();
            tag.is_some_and(|tag| !tags.contains(tag))
        };
        self.forget(&keys.workers, |field, _| is_gone(field)).await
    }

    /// Removes those fields of a hash.
    async fn forget(
        &self,
        key: &str,
        is_old: impl Fn(&[u8], &[u8]) -> bool + Send,
    ) -> Result<(), BrokerError> {
        let mut fields = Fields::new(key);
        while let Some(mut chunk) = fields.next(self).await? {
            chunk.retain(|(field, value)| is_old(field, value));
            if !chunk.is_empty() {
                let mut call = script::FORGET.call(&[key]);
                call.arg(chunk);
                call.send(self.link()).await?;
            }
        }
        Ok(())
    }
}

/// Reads a list or a sorted set from its beginning, a chunk at a time.
struct Entries<'a> {
    range: &'static str,
    key: &'a str,
    next: Option<usize>,
}

impl<'a> Entries<'a> {
    fn new(range: &'static str, key: &'a str) -> Self {
        let next = Some(0);
        Self { range, key, next }
    }

    async fn next(&mut self, broker: &RedisBroker) -> Result<Option<Vec<String>>, BrokerError> {
        let Some(first) = self.next else {
            return Ok(None);
        };
        let mut command = redis::cmd(self.range);
        command.arg(self.key).arg(first).arg(first + CHUNK - 1);
        let entries = reply::array(broker.command(&command).await?)?;
        self.next = (entries.len() == CHUNK).then_some(first + CHUNK);
        let entries = entries
            .into_iter()
            .map(reply::text)
            .collect::<Result<Vec<_>, _>>()?;
        Ok((!entries.is_empty()).then_some(entries))
    }
}

/// Reads a hash, about a chunk at a time: a small hash comes as a whole.
struct Fields<'a> {
    key: &'a str,
    /// Where to go on; `None` at the end.
    cursor: Option<String>,
}

type Field = (Vec<u8>, Vec<u8>);

impl<'a> Fields<'a> {
    fn new(key: &'a str) -> Self {
        let cursor = Some("0".to_owned());
        Self { key, cursor }
    }

    /// The next fields: none, if by chance there are none before the end.
    async fn next(&mut self, broker: &RedisBroker) -> Result<Option<Vec<Field>>, BrokerError> {
        let mut fields = Vec::new();
        while let Some(cursor) = self.cursor.take() {
            let mut command = redis::cmd("HSCAN");
            command.arg(self.key).arg(cursor).arg("COUNT").arg(CHUNK);
            let mut answer = reply::array(broker.command(&command).await?)?.into_iter();
            let cursor = reply::text(reply::next(&mut answer)?)?;
            self.cursor = (cursor != "0").then_some(cursor);
            let parts = reply::array(reply::next(&mut answer)?)?
                .into_iter()
                .map(reply::bytes);
            let mut parts = parts.collect::<Result<Vec<_>, _>>()?.into_iter();
            fields.extend(std::iter::from_fn(|| parts.next().zip(parts.next())));
            if !fields.is_empty() {
                return Ok(Some(fields));
            }
        }
        Ok(None)
    }
}

/// In the order that tasks don't go in.
fn sorted_sets(queue: &Queue) -> [&String; 6] {
    let keys = &queue.keys;
    [
        &keys.urgent,
        &keys.active,
        &keys.scheduled,
        &keys.retry,
        &keys.archived,
        &keys.completed,
    ]
}
