//! Finds and repairs inconsistencies, for example after an eviction, a restored backup or a failover.
//!
//! Every task has one envelope and one entry in a state, and scripts change both in one step. So equal counts show that
//! a queue is consistent. Only if the counts differ is everything read, in chunks.

use std::time::{Duration, Instant};

use asynqueue_core::{
    broker::BrokerError,
    task::{Envelope, Failure, FailureKind, TaskId},
};

use super::{Broker, RedisBroker, queue::Queue};
use crate::{reply, script};

/// How often the owner of a queue repairs it.
const INTERVAL: Duration = Duration::from_secs(20);

/// How many entries are read at a time.
pub(super) const CHUNK: usize = 500;

/// The number of tasks and entries in a queue.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) tasks: u64,
    entries: u64,
    pub(super) locks: u64,
    pub(super) lock_ends: u64,
    pub(super) waiters: u64,
    pub(super) lanes: u64,
    pub(super) workers: u64,
}

impl RedisBroker {
    /// Repairs a queue, if it is time.
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
        let counts = self.count(queue).await?;
        let adds_up = counts.tasks == counts.entries;
        if !adds_up {
            found += self.repair_entries(queue).await?;
            found += self.archive_orphans(queue).await?;
            self.remove_without_task(queue).await?;
        }
        found += self.remove_leftovers(queue, &counts, !adds_up).await?;
        if found > 0 {
            tracing::error!(queue = %queue.name, found, "repaired inconsistent tasks, entries or locks; \
                check whether Redis evicted keys or was restored from a backup");
        }
        Ok(())
    }

    /// Counts the tasks, their entries, and the data beside them.
    async fn count(&self, queue: &Queue) -> Result<Counts, BrokerError> {
        let call = script::check::call(&queue.keys, script::check::Args {});
        let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
        let mut next = || reply::number(reply::next(&mut answer)?);
        let counts = Counts {
            tasks: next()?,
            entries: next()?,
            locks: next()?,
            lock_ends: next()?,
            waiters: next()?,
            lanes: next()?,
            workers: next()?,
        };
        if counts.tasks > 0 {
            // The queue may have been deleted, and used again by a process that had not seen it.
            self.list_queue(queue).await?;
        }
        Ok(counts)
    }

    /// Removes entries without a task.
    async fn repair_entries(&self, queue: &Queue) -> Result<u64, BrokerError> {
        let keys = &queue.keys;
        let mut found = 0;
        for list in sorted_sets(queue) {
            let begins = if *list == keys.active { 17 } else { 1 };
            let mut entries = Entries::new("ZRANGE", list);
            while let Some(chunk) = entries.next(self).await? {
                let missing = script::missing::Keys {
                    tasks: &keys.tasks,
                    list,
                    stats: &keys.stats,
                };
                let mut call = script::missing::call(missing, script::missing::Args { begins });
                for entry in chunk {
                    call.row(script::missing::Entry { entry });
                }
                found += reply::number(call.send(self.link()).await?)?;
            }
        }
        let mut grouped = Fields::new(&keys.aggregating);
        while let Some(chunk) = grouped.next(self).await? {
            let mut call = script::missing_grouped::call(keys, script::missing_grouped::Args {});
            for (id, _) in chunk {
                call.row(script::missing_grouped::Task { id });
            }
            found += reply::number(call.send(self.link()).await?)?;
        }
        let mut entries = Entries::new("LRANGE", &keys.pending);
        while let Some(chunk) = entries.next(self).await? {
            let mut call = script::missing_pending::call(keys, script::missing_pending::Args {});
            for id in chunk {
                call.row(script::missing_pending::Task { id });
            }
            found += reply::number(call.send(self.link()).await?)?;
        }
        Ok(found)
    }

    /// Archives tasks without an entry. Whether they have run is unknown, so they run again only on request.
    async fn archive_orphans(&self, queue: &Queue) -> Result<u64, BrokerError> {
        let keys = &queue.keys;
        let mut orphans = self.task_ids(queue).await?;
        // After the tasks, and pending before active: an entry that moves in the meantime is found anyway, or is looked
        // up below.
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
        let not_after = self.script_clock();
        let mut call = script::orphans::call(&queue.keys, script::orphans::Args { not_after });
        let ids: Vec<_> = ids.iter().filter_map(|id| TaskId::new(id).ok()).collect();
        for found in self.look(queue, &ids).await?.into_iter().flatten() {
            let mut envelope = Envelope::clone(&found.envelope);
            envelope.push_failure(Failure::new(
                envelope.attempts,
                self.now(),
                FailureKind::Other,
                "the task was in no state: Redis lost its entry",
            ));
            call.row(script::orphans::Task {
                id: envelope.id.as_str(),
                seen: found.bytes,
                new: envelope.to_bytes(),
            });
        }
        reply::number(call.send(self.link()).await?)
    }
}

/// Reads a list or a sorted set from its start, a chunk at a time.
pub(super) struct Entries<'a> {
    range: &'static str,
    key: &'a str,
    next: Option<usize>,
}

impl<'a> Entries<'a> {
    pub(super) fn new(range: &'static str, key: &'a str) -> Self {
        let next = Some(0);
        Self { range, key, next }
    }

    pub(super) async fn next(
        &mut self,
        broker: &RedisBroker,
    ) -> Result<Option<Vec<String>>, BrokerError> {
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

/// Scans a hash, about a chunk at a time. A small hash is read in one step.
pub(super) struct Fields<'a> {
    key: &'a str,
    /// Where to continue. `None` at the end.
    cursor: Option<String>,
}

pub(super) type Field = (Vec<u8>, Vec<u8>);

impl<'a> Fields<'a> {
    pub(super) fn new(key: &'a str) -> Self {
        Self::from(key, None)
    }

    /// Continues at a cursor.
    pub(super) fn from(key: &'a str, cursor: Option<String>) -> Self {
        let cursor = Some(cursor.unwrap_or_else(|| "0".to_owned()));
        Self { key, cursor }
    }

    /// Where to continue. `None` at the end.
    pub(super) fn cursor(self) -> Option<String> {
        self.cursor
    }

    /// The next fields. May be empty before the end.
    pub(super) async fn next(
        &mut self,
        broker: &RedisBroker,
    ) -> Result<Option<Vec<Field>>, BrokerError> {
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

/// In the opposite order of the moves of tasks.
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
