//! Removes what expired locks, ended processes and deleted schedule entries leave in a queue: a bounded part at
//! a time, so that nothing grows and no call reads everything.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use asynqueue_core::broker::{BrokerError, Store};

use super::{
    RedisBroker,
    queue::Queue,
    repair::{CHUNK, Counts, Entries, Field, Fields},
};
use crate::{reply, script};

/// Lanes that were unused for this long belong to processes that have ended. No call is sent again after this long.
const LANE_AGE: Duration = Duration::from_secs(600);

/// A hash is scanned in about this many rounds.
const ROUNDS: u64 = 30;

/// How often workers' names are compared with leases, and locks with their expiry and tasks, if that means reading all
/// of them.
const RARELY: Duration = Duration::from_secs(600);

/// The progress of the rounds of one queue in this process.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    waiters: Walk,
    lanes: Walk,
    noted: Option<Instant>,
    lost: Option<Instant>,
    workers: Option<Instant>,
}

/// A scan of a hash that continues in the next round.
#[derive(Debug, Default)]
struct Walk(Option<String>);

/// Whether the rare work is due. Then it is noted as done.
fn is_time(last: &mut Option<Instant>) -> bool {
    let is_time = last.is_none_or(|last| last.elapsed() >= RARELY);
    if is_time {
        *last = Some(Instant::now());
    }
    is_time
}

impl RedisBroker {
    /// Removes leftovers. Returns the number of removed locks whose task was lost.
    pub(super) async fn remove_leftovers(
        &self,
        queue: &Queue,
        counts: &Counts,
        was_lost: bool,
    ) -> Result<u64, BrokerError> {
        let mut rounds = std::mem::take(&mut *queue.rounds.lock());
        let removed = self.next_round(queue, counts, was_lost, &mut rounds).await;
        *queue.rounds.lock() = rounds;
        removed
    }

    async fn next_round(
        &self,
        queue: &Queue,
        counts: &Counts,
        was_lost: bool,
        rounds: &mut Rounds,
    ) -> Result<u64, BrokerError> {
        if counts.lock_ends > 0 {
            self.remove_ended_locks(queue).await?;
        }
        if counts.locks != counts.lock_ends && is_time(&mut rounds.noted) {
            self.note_lock_ends(queue).await?;
        }
        // Without any task, every lock that ends with its task belongs to a lost one.
        let may_be_lost = counts.locks > 0 && counts.tasks == 0 && is_time(&mut rounds.lost);
        let lost = if was_lost || may_be_lost {
            self.remove_lost_locks(queue).await?
        } else {
            0
        };
        let now = self.now();
        let keys = &queue.keys;
        let is_over = |until: &[u8]| number(until).is_some_and(|until| until < now.as_millis());
        self.forget_some(
            &keys.waiters,
            counts.waiters,
            &mut rounds.waiters,
            |_, until| is_over(until),
        )
        .await?;
        let long_ago = now - LANE_AGE;
        self.forget_some(&keys.lanes, counts.lanes, &mut rounds.lanes, |_, last| {
            let time = last.split(|byte| *byte == b':').nth(1).unwrap_or_default();
            number(time).is_some_and(|time| time < long_ago.as_millis())
        })
        .await?;
        let older = script::older_workers::call(keys, script::older_workers::Args {});
        older.send(self.link()).await?;
        if counts.workers > 0 && is_time(&mut rounds.workers) {
            self.forget_workers(queue).await?;
        }
        Ok(lost)
    }

    /// Removes expired locks. The cost depends only on the number found.
    async fn remove_ended_locks(&self, queue: &Queue) -> Result<(), BrokerError> {
        let keys = &queue.keys;
        loop {
            let args = script::ended_locks::Args {
                not_after: self.script_clock(),
                limit: CHUNK,
            };
            let call = script::ended_locks::call(keys, args);
            let looked_at = reply::number(call.send(self.link()).await?)? as usize;
            if looked_at < CHUNK {
                return Ok(());
            }
        }
    }

    /// Updates the expiry index of locks after processes of older versions, which do not maintain it.
    async fn note_lock_ends(&self, queue: &Queue) -> Result<(), BrokerError> {
        let keys = &queue.keys;
        let mut locks = Fields::new(&keys.locks);
        while let Some(chunk) = locks.next(self).await? {
            let not_after = self.script_clock();
            let mut call = script::note_locks::call(keys, script::note_locks::Args { not_after });
            for (lock, _) in chunk {
                call.row(script::note_locks::Lock { lock });
            }
            call.send(self.link()).await?;
        }
        let mut gone = Vec::new();
        let mut ends = Entries::new("ZRANGE", &keys.lock_ends);
        while let Some(chunk) = ends.next(self).await? {
            gone.push(chunk);
        }
        for chunk in gone {
            let not_after = self.script_clock();
            let mut call = script::forget_ends::call(keys, script::forget_ends::Args { not_after });
            for lock in chunk {
                call.row(script::forget_ends::Lock { lock });
            }
            call.send(self.link()).await?;
        }
        Ok(())
    }

    /// Removes locks that end with a task that no longer exists.
    async fn remove_lost_locks(&self, queue: &Queue) -> Result<u64, BrokerError> {
        let keys = &queue.keys;
        let mut found = 0;
        let mut locks = Fields::new(&keys.locks);
        while let Some(chunk) = locks.next(self).await? {
            let not_after = self.script_clock();
            let mut call = script::lost_locks::call(keys, script::lost_locks::Args { not_after });
            for (lock, seen) in chunk {
                call.row(script::lost_locks::Lock { lock, seen });
            }
            found += reply::number(call.send(self.link()).await?)?;
        }
        Ok(found)
    }

    /// Removes data of tasks that no longer exist.
    pub(super) async fn remove_without_task(&self, queue: &Queue) -> Result<(), BrokerError> {
        let keys = &queue.keys;
        let beside = [
            &keys.results,
            &keys.priorities,
            &keys.since,
            &keys.cancels,
            &keys.progress,
        ];
        for kept in beside {
            let mut fields = Fields::new(kept);
            while let Some(chunk) = fields.next(self).await? {
                let not_after = self.script_clock();
                let tasks = &keys.tasks;
                let mut call = script::without_task::call(
                    script::without_task::Keys { tasks, kept },
                    script::without_task::Args { not_after },
                );
                for (id, _) in chunk {
                    call.row(script::without_task::Task { id });
                }
                call.send(self.link()).await?;
            }
        }
        Ok(())
    }

    /// Removes names of workers without leases. A worker that leases again adds its name again within seconds.
    async fn forget_workers(&self, queue: &Queue) -> Result<(), BrokerError> {
        let keys = &queue.keys;
        let mut names = Vec::new();
        let mut fields = Fields::new(&keys.workers);
        while let Some(chunk) = fields.next(self).await? {
            names.extend(chunk);
        }
        let mut tags = HashSet::new();
        let mut leases = Entries::new("ZRANGE", &keys.active);
        while let Some(chunk) = leases.next(self).await? {
            let tag = |lease: &String| lease.get(..8).map(|tag| tag.as_bytes().to_vec());
            tags.extend(chunk.iter().filter_map(tag));
        }
        names.retain(|(tag, _)| !tags.contains(tag));
        self.forget_as_seen(&keys.workers, names).await?;
        // A worker of this process adds its name with its next lease.
        *queue.named.lock() = None;
        Ok(())
    }

    /// Removes these fields from a part of a hash.
    async fn forget_some(
        &self,
        key: &str,
        count: u64,
        walk: &mut Walk,
        is_old: impl Fn(&[u8], &[u8]) -> bool + Send,
    ) -> Result<(), BrokerError> {
        if count == 0 {
            return Ok(());
        }
        let mut fields = self.some_of(key, count, walk).await?;
        fields.retain(|(field, value)| is_old(field, value));
        self.forget_as_seen(key, fields).await
    }

    /// Removes fields that still have the value that was read.
    pub(super) async fn forget_as_seen<F>(
        &self,
        hash: &str,
        fields: Vec<(F, Vec<u8>)>,
    ) -> Result<(), BrokerError>
    where
        F: AsRef<[u8]> + Send + Sync,
    {
        for chunk in fields.chunks(CHUNK) {
            let mut call =
                script::forget::call(script::forget::Keys { hash }, script::forget::Args {});
            for (field, seen) in chunk {
                let field = field.as_ref();
                call.row(script::forget::Field { field, seen });
            }
            call.send(self.link()).await?;
        }
        Ok(())
    }

    /// The next part of a hash with this many fields.
    async fn some_of(
        &self,
        key: &str,
        count: u64,
        walk: &mut Walk,
    ) -> Result<Vec<Field>, BrokerError> {
        let enough = (count / ROUNDS).max(CHUNK as u64) as usize;
        let mut fields = Fields::from(key, walk.0.take());
        let mut some = Vec::new();
        while some.len() < enough
            && let Some(chunk) = fields.next(self).await?
        {
            some.extend(chunk);
        }
        walk.0 = fields.cursor();
        Ok(some)
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
