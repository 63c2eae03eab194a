//! Leasing, and extending leases.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{BrokerError, Each, Extended, Lease, LeaseRequest, LeaseToken, Leased},
    task::{Envelope, Name, Timestamp, UniqueUntil},
};
use futures_util::future::join_all;
use redis::Value;

use super::{
    MAX_CHUNK, RedisBroker, millis,
    queue::{Queue, Read, each_of},
};
use crate::{lanes::Used, link::Sent, reply, script};

/// How a lease is named in Redis: its token in 16 hexadecimal digits, then the task's id.
pub(super) fn member(token: LeaseToken, id: &str) -> String {
    format!("{:016x}{id}", token.0)
}

/// The token and the id of a lease's name.
pub(super) fn parts(member: &str) -> Result<(LeaseToken, &str), BrokerError> {
    let read = || {
        let (token, id) = member.split_at_checked(16)?;
        Some((LeaseToken(u64::from_str_radix(token, 16).ok()?), id))
    };
    read().ok_or_else(|| BrokerError::protocol(format!("unexpected lease: `{member}`")))
}

impl RedisBroker {
    /// Leases from queues in turn.
    pub(super) async fn lease_from_all(&self, request: &LeaseRequest) -> Each<Vec<Leased>> {
        let caps = request.queues.iter().map(|(_, cap)| *cap);
        let in_all = caps.fold(0_usize, usize::saturating_add);
        if in_all <= request.max {
            // None can take what another was to have: they are asked at the same time.
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

    /// Leases from one queue. What is leased is somebody's: an error is returned only where nothing came before it.
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
            let asked = (max - leased.len()).min(MAX_CHUNK);
            let batch = match self.lease_chunk(&queue, asked, request).await {
                Err(error) if leased.is_empty() => return Err(error),
                Err(_) => {
                    self.wake_again(&queue);
                    break;
                }
                Ok(batch) => batch,
            };
            let goes_on = batch.may_have_left_some || batch.leased.len() == asked;
            leased.extend(batch.leased);
            // Over a slow link, what has come is not to wait for the rest until its lease ends.
            if goes_on && started.elapsed() >= LEASE_FOR.min(request.lease / 4) {
                self.wake_again(&queue);
                break;
            }
            if !goes_on {
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
        // One that was not answered may have leased tasks: they are this worker's, and nobody else gets them meanwhile.
        let tag = self.tag(&request.worker);
        let lane = queue.leases.again_or_next(tag.into());
        let token = LeaseToken(u64::from(tag) << 32 | lane.number() & u64::from(u32::MAX));
        let asked = Asked {
            lane: &lane,
            token: member(token, ""),
            max,
            lease: millis(request.lease),
        };
        let answered = self.ask(queue, &asked, &request.worker).await;
        let (answer, is_first) = answered.inspect_err(|_| queue.room.lost())?;
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
            // The first answer told, and took it away.
            (batch.leased.iter_mut()).for_each(|leased| leased.pending_since = None);
        }
        self.note_time(batch.now);
        if !batch.leased.is_empty() {
            queue.upkeep.lock().note_leased();
        }
        // What is leased is to be run, whatever becomes of these.
        if let Err(error) = self.release_at_start(queue, &batch.leased).await {
            tracing::warn!(%error, "locks are held until their tasks end, since they could not be released at the start");
        }
        if let Err(error) = self.give_back_unreadable(&batch.unreadable).await {
            tracing::warn!(%error, "tasks that cannot be read could not be given back; tried again when their lease has ended");
        }
        Ok(batch)
    }

    /// The answer, and whether it is the first one. Where that was lost, what it said is asked for.
    async fn ask(
        &self,
        queue: &Queue,
        asked: &Asked<'_>,
        worker: &Name,
    ) -> Result<(Vec<Value>, bool), BrokerError> {
        let sent = if asked.lane.is_again() {
            Sent::Again
        } else {
            Sent::First
        };
        let is_named = queue.is_named(self.tag(worker));
        let args = script::lease::Args {
            not_after: self.script_clock_of(sent),
            lane: asked.lane.name(),
            number: asked.lane.number(),
            token: &asked.token,
            limit: asked.max,
            millis: asked.lease,
            tag: &asked.token[..8],
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
            lane: asked.lane.name(),
            number: asked.lane.number(),
            token: &asked.token,
            millis: asked.lease,
            // What was too much to arrive in time is too much this time too.
            bytes: queue.room.bytes() / 2,
            publish: self.link().publish_command(),
        };
        let call = script::leased::call(&queue.keys, args);
        Ok((reply::array(call.send(self.link()).await?)?, false))
    }

    /// What stands for a worker in its leases: eight hexadecimal digits.
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

    /// Releases the locks that end when a task starts. Should this process die before, they end with their task.
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
            other => Err(reply::strange("0, 1 or 2", &other)),
        };
        answers.into_iter().map(read).collect()
    }
}

/// For how long to lease chunk after chunk before what has come is put to use.
const LEASE_FOR: Duration = Duration::from_secs(1);

/// What a call asks for.
struct Asked<'a> {
    lane: &'a Used<'a>,
    token: String,
    max: usize,
    lease: u64,
}

/// What one call has leased.
struct Batch {
    now: Timestamp,
    may_have_left_some: bool,
    /// The size of all envelopes.
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
                // One that was never moved has been pending from the start.
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
        // These came in the place of others.
        batch.may_have_left_some |= !batch.unreadable.is_empty();
        Ok(batch)
    }
}
