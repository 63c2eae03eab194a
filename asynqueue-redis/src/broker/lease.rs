//! Leasing tasks, and extending leases.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{BrokerError, Each, Extended, Lease, LeaseRequest, LeaseToken, Leased, kit::Used},
    task::{Envelope, Name, Timestamp, UniqueUntil},
};
use futures_util::future::join_all;
use redis::Value;

use super::{
    MAX_CHUNK, RedisBroker, millis,
    queue::{Queue, Read, each_of},
};
use crate::{link::Sent, reply, script};

/// The name of a lease in Redis: its token in 16 hexadecimal digits, then the id of the task.
pub(super) fn member(token: LeaseToken, id: &str) -> String {
    format!("{:016x}{id}", token.0)
}

/// The token and task id in the name of a lease.
pub(super) fn parts(member: &str) -> Result<(LeaseToken, &str), BrokerError> {
    let read = || {
        let (token, id) = member.split_at_checked(16)?;
        Some((LeaseToken(u64::from_str_radix(token, 16).ok()?), id))
    };
    read().ok_or_else(|| BrokerError::protocol(format!("unexpected lease: `{member}`")))
}

impl RedisBroker {
    /// Leases from several queues.
    pub(super) async fn lease_from_all(&self, request: &LeaseRequest) -> Each<Vec<Leased>> {
        let caps = request.queues.iter().map(|(_, cap)| *cap);
        let in_all = caps.fold(0_usize, usize::saturating_add);
        if in_all <= request.max {
            // The queues are independent, so they are queried concurrently.
            let ask = |(queue, cap): &(Name, usize)| self.lease_from(queue.clone(), *cap, request);
            return join_all(request.queues.iter().map(ask)).await;
        }
        let (mut batches, mut left) = (Vec::with_capacity(request.queues.len()), request.max);
        for (queue, cap) in &request.queues {
            let batch = self
                .lease_from(queue.clone(), (*cap).min(left), request)
                .await;
            left -= batch.as_ref().map_or(0, |leased| leased.len().min(left));
            batches.push(batch);
        }
        batches
    }

    /// Leases from one queue. Leased tasks must reach the caller, so an error is returned only if nothing was leased
    /// before it.
    async fn lease_from(
        &self,
        name: Name,
        max: usize,
        request: &LeaseRequest,
    ) -> Result<Vec<Leased>, BrokerError> {
        let queue = self.queue(&name);
        let started = Instant::now();
        let mut leased = Vec::new();
        while leased.len() < max {
            let wanted = (max - leased.len()).min(MAX_CHUNK);
            let batch = match self.lease_chunk(&queue, wanted, request).await {
                Err(error) if leased.is_empty() => return Err(error),
                Err(_) => {
                    self.wake_again(&queue);
                    break;
                }
                Ok(batch) => batch,
            };
            let continues = batch.may_have_left_some || batch.leased.len() == wanted;
            leased.extend(batch.leased);
            // On a slow link, tasks that have arrived must not wait for the others until their lease expires.
            if continues && started.elapsed() >= LEASE_FOR.min(request.lease / 4) {
                self.wake_again(&queue);
                break;
            }
            if !continues {
                break;
            }
        }
        Ok(leased)
    }

    async fn lease_chunk(
        &self,
        queue: &Queue,
        max: usize,
        request: &LeaseRequest,
    ) -> Result<Batch, BrokerError> {
        // A call without a response may have leased tasks. They belong to this worker, and no other worker can lease
        // them.
        let tag = self.tag(&request.worker);
        let lane = queue.leases.again_or_next(tag.into());
        let token = LeaseToken(u64::from(tag) << 32 | lane.number() & u64::from(u32::MAX));
        let request_args = LeaseArgs {
            lane: &lane,
            token: member(token, ""),
            max,
            lease: millis(request.lease),
        };
        let response = self
            .lease_or_resume(queue, &request_args, &request.worker)
            .await;
        let (answer, is_first) = response.inspect_err(|_| queue.room.lost())?;
        lane.answered();
        let mut batch = Batch::read(queue, answer, token)?;
        if is_first {
            queue.room.arrived(batch.tasks(), batch.bytes);
            if batch.tasks() > 0 && !queue.is_named(tag) {
                *queue.named.lock() = Some((tag, Instant::now()));
            }
        } else {
            queue.room.lost();
            batch.may_have_left_some = true;
            // The first response contained the times, and Redis no longer has them.
            (batch.leased.iter_mut()).for_each(|leased| leased.pending_since = None);
        }
        self.note_time(batch.now);
        if !batch.leased.is_empty() {
            queue.upkeep.lock().note_leased();
        }
        // The leased tasks run even if the following calls fail.
        if let Err(error) = self.release_at_start(queue, &batch.leased).await {
            tracing::warn!(%error, "could not release locks when their tasks started; they stay until the tasks end");
        }
        self.0.unreadable.release(self, &batch.unreadable).await;
        Ok(batch)
    }

    /// Returns the response, and whether it is the first one. If the first was lost, requests its content again.
    async fn lease_or_resume(
        &self,
        queue: &Queue,
        request: &LeaseArgs<'_>,
        worker: &Name,
    ) -> Result<(Vec<Value>, bool), BrokerError> {
        let sent = if request.lane.is_again() {
            Sent::Again
        } else {
            Sent::First
        };
        let is_named = queue.is_named(self.tag(worker));
        let args = script::lease::Args {
            not_after: self.script_clock_of(sent),
            lane: request.lane.name(),
            number: request.lane.number(),
            token: &request.token,
            limit: request.max,
            millis: request.lease,
            tag: &request.token[..8],
            worker: if is_named { "" } else { worker.as_str() },
            bytes: queue.room.bytes(),
            step: queue.room.step(),
            instance: self.tag_to_wake(queue),
        };
        let call = script::lease::call(&queue.keys, args);
        let answer = reply::array(call.send(self.link()).await?)?;
        if !matches!(answer.get(1), Some(Value::BulkString(text)) if text == b"seen") {
            return Ok((answer, true));
        }
        let args = script::leased::Args {
            not_after: self.script_clock(),
            lane: request.lane.name(),
            number: request.lane.number(),
            token: &request.token,
            millis: request.lease,
            // A response of the full size was too large to arrive in time.
            bytes: queue.room.bytes() / 2,
            publish: self.link().publish_command(),
        };
        let call = script::leased::call(&queue.keys, args);
        Ok((reply::array(call.send(self.link()).await?)?, false))
    }

    /// The short form of a worker in its leases: eight hexadecimal digits.
    fn tag(&self, worker: &Name) -> u32 {
        if let Some(tag) = self.0.workers.read().get(worker) {
            return *tag;
        }
        *self
            .0
            .workers
            .write()
            .entry(worker.clone())
            .or_insert_with(rand::random)
    }

    /// Releases the locks that end when a task starts. If this process dies first, they end with their task.
    async fn release_at_start(&self, queue: &Queue, leased: &[Leased]) -> Result<(), BrokerError> {
        let mut call = None;
        for leased in leased {
            let lock = leased.envelope.unique.as_ref();
            if let Some(lock) = lock.filter(|lock| lock.until == UniqueUntil::Start) {
                let unlock = || {
                    let not_after = self.script_clock();
                    let args = script::unlock::Args { not_after };
                    script::unlock::call(&queue.keys, args)
                };
                call.get_or_insert_with(unlock).row(script::unlock::Lock {
                    lock: lock.key.as_str(),
                    holder: leased.envelope.id.as_str(),
                });
            }
        }
        match call {
            Some(call) => call.send(self.link()).await.map(drop),
            None => Ok(()),
        }
    }

    pub(super) async fn extend_all(&self, leases: &[Lease], lease: Duration) -> Each<Extended> {
        let leases = leases.iter().collect();
        self.each_queue_by_itself(
            leases,
            |lease: &&Lease| &lease.task.queue,
            |queue, leases| async move {
                let mut extended = Vec::with_capacity(leases.len());
                for chunk in leases.chunks(MAX_CHUNK) {
                    let answers = self.extend_chunk(&queue, chunk, lease).await;
                    extended.extend(each_of(answers, chunk.len()));
                }
                extended
            },
        )
        .await
    }

    async fn extend_chunk(
        &self,
        queue: &Queue,
        leases: &[&Lease],
        lease: Duration,
    ) -> Result<Vec<Extended>, BrokerError> {
        let args = script::extend::Args {
            not_after: self.script_clock(),
            millis: millis(lease),
        };
        let mut call = script::extend::call(&queue.keys, args);
        for lease in leases {
            let lease = member(lease.token, lease.task.id.as_str());
            call.row(script::extend::Lease { lease });
        }
        let answers = reply::array(call.send(self.link()).await?)?;
        let read = |answer| match answer {
            Value::Int(0) => Ok(Extended::Lost),
            Value::Int(1) => Ok(Extended::Yes),
            Value::Int(2) => Ok(Extended::CancelRequested),
            other => Err(reply::unexpected("0, 1 or 2", &other)),
        };
        answers.into_iter().map(read).collect()
    }
}

/// How long to lease chunk after chunk before the leased tasks are returned.
const LEASE_FOR: Duration = Duration::from_secs(1);

/// The arguments of a lease call.
struct LeaseArgs<'a> {
    lane: &'a Used<'a>,
    token: String,
    max: usize,
    lease: u64,
}

/// The tasks that one call has leased.
struct Batch {
    now: Timestamp,
    may_have_left_some: bool,
    /// The total size of the envelopes.
    bytes: usize,
    leased: Vec<Leased>,
    unreadable: Vec<Leased>,
}

impl Batch {
    fn tasks(&self) -> usize {
        self.leased.len() + self.unreadable.len()
    }

    fn read(queue: &Queue, answer: Vec<Value>, token: LeaseToken) -> Result<Self, BrokerError> {
        let mut answer = answer.into_iter();
        let now = Timestamp::from_millis(reply::number(reply::next(&mut answer)?)?);
        let more = reply::text(reply::next(&mut answer)?)?;
        let mut batch = Self {
            now,
            may_have_left_some: more == "more",
            bytes: 0,
            leased: Vec::new(),
            unreadable: Vec::new(),
        };
        let (Some(ids), Some(envelopes)) = (answer.next(), answer.next()) else {
            return Ok(batch);
        };
        let ids = reply::array(ids)?;
        let mut times = reply::array(answer.next().unwrap_or(Value::Nil))?.into_iter();
        batch.leased.reserve(ids.len());
        for (id, bytes) in ids.into_iter().zip(reply::array(envelopes)?) {
            let since = match times.next() {
                None | Some(Value::Nil) => None,
                Some(time) => reply::some_time(time)?,
            };
            let leased = |envelope: Arc<Envelope>| {
                // A task that never moved has been pending since it was enqueued.
                let pending_since = since.unwrap_or(envelope.enqueued_at);
                let mut leased = Leased::new(envelope, token, now);
                leased.pending_since = Some(pending_since);
                leased
            };
            let bytes = reply::bytes(bytes)?;
            batch.bytes += bytes.len();
            match queue.envelope(&reply::text(id)?, bytes)? {
                Read::Whole(envelope) => batch.leased.push(leased(envelope)),
                Read::Unreadable(envelope) => batch.unreadable.push(leased(envelope)),
            }
        }
        // Unreadable tasks took the place of others.
        batch.may_have_left_some |= !batch.unreadable.is_empty();
        Ok(batch)
    }
}
