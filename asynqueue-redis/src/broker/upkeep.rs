//! Upkeep: due tasks, expired leases and old tasks.

use std::sync::Arc;

use asynqueue_core::{
    broker::{Broker, BrokerError, Each, Forwarded, HourStats, Keep, Leased, Trimmed},
    task::{Name, Timestamp},
};

use super::{
    MAX_CHUNK, MAX_MILLIS, RedisBroker, known_upkeep::Part, lease::parts, millis, queue::Queue,
    wakeups::IDLE_MAX,
};
use crate::{reply, script};

impl RedisBroker {
    pub(super) async fn forward_due(&self, queues: &[Name], limit: usize) -> Each<Forwarded> {
        self.renew_alive();
        let forward = |queue: Arc<Queue>| async move { self.forward_in(&queue, limit).await };
        self.for_each_queue(queues, forward).await
    }

    /// Tasks that moved before an error are no longer due, so only the next response shows them.
    async fn forward_in(&self, queue: &Queue, limit: usize) -> Result<Forwarded, BrokerError> {
        let mut forwarded = Forwarded::default();
        if !self.should_do(queue, Part::Forward).await? {
            forwarded.next_due = queue.upkeep.lock().next_due();
            return Ok(forwarded);
        }
        loop {
            let wanted = (limit - forwarded.moved).min(MAX_CHUNK);
            let (moved, next_due) = self.forward_chunk(queue, wanted).await?;
            forwarded.moved += moved;
            forwarded.next_due = next_due;
            if moved < wanted || moved == 0 || forwarded.moved == limit {
                return Ok(forwarded);
            }
        }
    }

    async fn forward_chunk(
        &self,
        queue: &Queue,
        limit: usize,
    ) -> Result<(usize, Option<Timestamp>), BrokerError> {
        queue.upkeep.lock().forwards();
        let args = script::forward::Args {
            not_after: self.script_clock(),
            publish: self.link().publish_command(),
            limit,
        };
        let call = script::forward::call(&queue.keys, args);
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
    ) -> Each<Vec<Leased>> {
        let find = |queue: Arc<Queue>| async move {
            if !self.should_do(&queue, Part::Expired).await? {
                return Ok(Vec::new());
            }
            let by = queue.upkeep.lock().watch(by, self.now());
            let found = self.expired_in(&queue, by, limit).await;
            if found.is_err() {
                queue.upkeep.lock().interrupted();
            }
            found
        };
        self.for_each_queue(queues, find).await
    }

    /// The leases stay in place, so a second call would find the same ones: one call per queue must be enough.
    async fn expired_in(
        &self,
        queue: &Queue,
        by: Timestamp,
        limit: usize,
    ) -> Result<Vec<Leased>, BrokerError> {
        let mut expired = Vec::new();
        let args = script::expired::Args {
            not_after: self.script_clock(),
            limit: limit.min(MAX_EXPIRED),
            by: by.as_millis(),
            bytes: self.0.answer_bytes,
        };
        let call = script::expired::call(&queue.keys, args);
        let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
        let now = Timestamp::from_millis(reply::number(reply::next(&mut answer)?)?);
        self.note_time(now);
        let (Some(leases), Some(envelopes)) = (answer.next(), answer.next()) else {
            return Ok(expired);
        };
        for (lease, envelope) in reply::array(leases)?
            .into_iter()
            .zip(reply::array(envelopes)?)
        {
            let lease = reply::text(lease)?;
            let (token, id) = parts(&lease)?;
            let envelope = queue.envelope(id, reply::bytes(envelope)?)?.either();
            expired.push(Leased::new(envelope, token, now));
        }
        Ok(expired)
    }

    pub(super) async fn trim_old(
        &self,
        queues: &[Name],
        keep: Keep,
        limit: usize,
    ) -> Each<Trimmed> {
        let trim = |queue: Arc<Queue>| async move { self.trim_in(&queue, keep, limit).await };
        self.for_each_queue(queues, trim).await
    }

    /// Deleted tasks must be reported, so an error is returned only if nothing was deleted.
    async fn trim_in(
        &self,
        queue: &Queue,
        keep: Keep,
        limit: usize,
    ) -> Result<Trimmed, BrokerError> {
        let mut trimmed = Trimmed::default();
        match self.trim_queue(queue, keep, limit, &mut trimmed).await {
            Err(error) if trimmed.deleted() == 0 => Err(error),
            Err(error) => {
                tracing::warn!(queue = %queue.name, %error, "could not trim the queue completely; retrying later");
                Ok(trimmed)
            }
            Ok(()) => Ok(trimmed),
        }
    }

    async fn trim_queue(
        &self,
        queue: &Queue,
        keep: Keep,
        limit: usize,
        trimmed: &mut Trimmed,
    ) -> Result<(), BrokerError> {
        if !self.should_do(queue, Part::Trim).await? {
            return Ok(());
        }
        self.repair_now_and_then(queue).await?;
        loop {
            let wanted = (limit - trimmed.deleted()).min(MAX_CHUNK);
            let now = self.trim_chunk(queue, keep, wanted).await?;
            trimmed.completed += now.completed;
            trimmed.by_count += now.by_count;
            trimmed.by_age += now.by_age;
            trimmed.archived = now.archived;
            if now.deleted() < wanted || wanted == 0 {
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
        let args = script::trim::Args {
            not_after: self.script_clock(),
            archived_for: millis(keep.archived_for),
            archived_max: (keep.archived_max as u64).min(MAX_MILLIS),
            limit,
            hours_kept: HourStats::KEPT,
            idle_max: millis(IDLE_MAX),
        };
        let call = script::trim::call(&queue.keys, args);
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

/// The limit of expired leases in one call. Lua's stack holds about 8,000 values.
const MAX_EXPIRED: usize = 5_000;
