//! Upkeep: what is due, lost or old.

use asynqueue_core::{
    Broker, BrokerError, Forwarded, HourStats, Keep, Leased, Name, Timestamp, Trimmed,
};

use super::{
    MAX_CHUNK, MAX_MILLIS, RedisBroker, known_upkeep::Part, lease::parts, millis, queue::Queue,
};
use crate::{reply, script};

impl RedisBroker {
    pub(super) async fn forward_due(
        &self,
        queues: &[Name],
        limit: usize,
    ) -> Result<Forwarded, BrokerError> {
        let mut forwarded = Forwarded::default();
        self.say_alive();
        for name in queues {
            let queue = self.queue(name);
            if !self.looks_after(&queue, Part::Forward).await? {
                let next_due = queue.upkeep.lock().next_due();
                forwarded.next_due = [forwarded.next_due, next_due].into_iter().flatten().min();
                continue;
            }
            let next_due = loop {
                let asked = (limit - forwarded.moved).min(MAX_CHUNK);
                let (moved, next_due) = self.forward_chunk(&queue, asked).await?;
                forwarded.moved += moved;
                if moved < asked || moved == 0 || forwarded.moved == limit {
                    break next_due;
                }
            };
            forwarded.next_due = [forwarded.next_due, next_due].into_iter().flatten().min();
        }
        Ok(forwarded)
    }

    async fn forward_chunk(
        &self,
        queue: &Queue,
        limit: usize,
    ) -> Result<(usize, Option<Timestamp>), BrokerError> {
        let keys = &queue.keys;
        let mut call = script::FORWARD.call(&[
            &keys.priorities,
            &keys.since,
            &keys.pending,
            &keys.urgent,
            &keys.scheduled,
            &keys.retry,
            &keys.meta,
            &keys.events,
        ]);
        queue.upkeep.lock().forwards();
        call.arg(self.script_clock())
            .arg(self.link().publish_command())
            .arg(limit);
        let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
        let moved = reply::number(reply::next(&mut answer)?)? as usize;
        let next_due = reply::some_time(reply::next(&mut answer)?)?;
        queue.upkeep.lock().forwarded(next_due);
        Ok((moved, next_due))
    }

    pub(super) async fn find_expired(
        &self,
        queues: &[Name],
        by: Timestamp,
        limit: usize,
    ) -> Result<Vec<Leased>, BrokerError> {
        let mut expired = Vec::new();
        for name in queues {
            let queue = self.queue(name);
            if expired.len() < limit && self.looks_after(&queue, Part::Expired).await? {
                let by = queue.upkeep.lock().watch(by, self.now());
                let found = self.expired_in(&queue, by, limit, &mut expired).await;
                if found.is_err() {
                    queue.upkeep.lock().interrupted();
                }
                found?;
            }
        }
        Ok(expired)
    }

    /// They stay where they are, so that a second call would find the same ones: one call has to do for a queue.
    async fn expired_in(
        &self,
        queue: &Queue,
        by: Timestamp,
        limit: usize,
        expired: &mut Vec<Leased>,
    ) -> Result<(), BrokerError> {
        let keys = &queue.keys;
        let mut call = script::EXPIRED.call(&[&keys.active, &keys.tasks, &keys.stats]);
        call.arg(self.script_clock())
            .arg((limit - expired.len()).min(MAX_EXPIRED))
            .arg(by.as_millis());
        let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
        let now = Timestamp::from_millis(reply::number(reply::next(&mut answer)?)?);
        let (Some(leases), Some(envelopes)) = (answer.next(), answer.next()) else {
            return Ok(());
        };
        for (lease, envelope) in reply::array(leases)?
            .into_iter()
            .zip(reply::array(envelopes)?)
        {
            let lease = reply::text(lease)?;
            let (token, id) = parts(&lease)?;
            let envelope = queue.envelope(id, reply::bytes(envelope)?)?.either();
            expired.push(Leased {
                envelope,
                token,
                now,
                pending_since: None,
            });
        }
        Ok(())
    }

    /// Trims queue by queue. What is deleted has to be reported: an error is returned only where nothing was deleted.
    pub(super) async fn trim_old(
        &self,
        queues: &[Name],
        keep: Keep,
        limit: usize,
    ) -> Result<Vec<Trimmed>, BrokerError> {
        let (mut all, mut left, mut failed) = (Vec::with_capacity(queues.len()), limit, None);
        for name in queues {
            let mut trimmed = Trimmed::default();
            if let Err(error) = self.trim_queue(name, keep, left, &mut trimmed).await {
                failed = Some(error);
            }
            left -= trimmed.deleted().min(left);
            all.push(trimmed);
        }
        match failed {
            Some(error) if left == limit => Err(error),
            Some(error) => {
                tracing::warn!(%error, "some queues could not be trimmed; tried again in a while");
                Ok(all)
            }
            None => Ok(all),
        }
    }

    async fn trim_queue(
        &self,
        name: &Name,
        keep: Keep,
        limit: usize,
        trimmed: &mut Trimmed,
    ) -> Result<(), BrokerError> {
        let queue = self.queue(name);
        if !self.looks_after(&queue, Part::Trim).await? {
            return Ok(());
        }
        self.repair_now_and_then(&queue).await?;
        loop {
            let asked = (limit - trimmed.deleted()).min(MAX_CHUNK);
            let now = self.trim_chunk(&queue, keep, asked).await?;
            trimmed.completed += now.completed;
            trimmed.by_count += now.by_count;
            trimmed.by_age += now.by_age;
            trimmed.archived = now.archived;
            if now.deleted() < asked || asked == 0 {
                return Ok(());
            }
        }
    }

    async fn trim_chunk(
        &self,
        queue: &Queue,
        keep: Keep,
        limit: usize,
    ) -> Result<Trimmed, BrokerError> {
        let keys = &queue.keys;
        let mut call = script::TRIM.call(&[
            &keys.tasks,
            &keys.completed,
            &keys.archived,
            &keys.results,
            &keys.priorities,
            &keys.hours,
            &keys.stats,
        ]);
        let archived_max = (keep.archived_max as u64).min(MAX_MILLIS);
        call.arg(self.script_clock())
            .arg(millis(keep.archived_for))
            .arg(archived_max)
            .arg(limit)
            .arg(HourStats::KEPT);
        let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
        let mut number = || reply::number(reply::next(&mut answer)?);
        Ok(Trimmed {
            completed: number()? as usize,
            by_count: number()? as usize,
            by_age: number()? as usize,
            archived: number()?,
        })
    }
}

/// The most lost leases to read in one call: Lua's stack holds no more than some 8,000 values.
const MAX_EXPIRED: usize = 5_000;
