//! What this process knows of one queue.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{BrokerError, Each},
    codec::CodecName,
    task::{Envelope, Failure, FailureKind, Name, TaskId, Timestamp},
};
use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use parking_lot::Mutex;

use super::{
    RedisBroker, coalesce::Coalescers, known_upkeep::Upkeep, leftovers::Rounds, room::Room,
    waiters::Waiters, wakeups::Wakeups,
};
use crate::{keys::QueueKeys, lanes::Lanes, link::spawn, script};

/// How often a queue that is in use is listed among all.
const LIST_AGAIN: Duration = Duration::from_secs(10);

/// How long the first task of a queue waits for it to be listed, where the list may be on a shard that is away.
const LIST_PATIENCE: Duration = Duration::from_millis(500);

/// One queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: Name,
    pub(super) keys: QueueKeys,
    /// For changes that are of no use once whoever asked for them is gone.
    pub(super) changes: Lanes,
    /// For leases, which are somebody's even when the answer was lost.
    pub(super) leases: Lanes,
    /// How much is leased at a time.
    pub(super) room: Room,
    /// The tag of the worker whose name was noted last, and when.
    pub(super) named: Mutex<Option<(u32, Instant)>>,
    pub(super) waiters: Waiters,
    /// Its tasks that are enqueued one by one.
    pub(super) single: Coalescers,
    pub(super) wakeups: Wakeups,
    /// When its name was put among those of all queues.
    pub(super) listed: Mutex<Option<Instant>>,
    /// When it was last looked after.
    pub(super) repaired: Mutex<Option<Instant>>,
    /// How far the removal of what is left in it has come.
    pub(super) rounds: Mutex<Rounds>,
    /// Who looks after it.
    pub(super) upkeep: Mutex<Upkeep>,
}

impl Queue {
    pub(super) fn new(
        prefix: &str,
        db: i64,
        name: Name,
        instance: u64,
        answer_bytes: usize,
    ) -> Self {
        Self {
            keys: QueueKeys::new(prefix, db, &name, instance),
            name,
            changes: Lanes::new(format!("{instance:016x}c")),
            leases: Lanes::new(format!("{instance:016x}l")),
            room: Room::new(answer_bytes),
            named: Mutex::default(),
            waiters: Waiters::default(),
            single: Coalescers::default(),
            wakeups: Wakeups::default(),
            listed: Mutex::default(),
            repaired: Mutex::default(),
            rounds: Mutex::default(),
            upkeep: Mutex::default(),
        }
    }

    /// Whether the name of the worker that leases was noted. Now and then it is again, for the queue may have been deleted
    /// meanwhile.
    pub(super) fn is_named(&self, tag: u32) -> bool {
        (self.named.lock()).is_some_and(|(of, since)| of == tag && since.elapsed() < LIST_AGAIN)
    }

    /// Reads an envelope. One that cannot be read is put into an envelope of its own, with the reason, so that it can be
    /// archived by itself and looked at.
    pub(super) fn envelope(&self, id: &str, bytes: Vec<u8>) -> Result<Read, BrokerError> {
        let id = TaskId::new(id)
            .map_err(|error| BrokerError::protocol(error.to_string()).caused_by(error))?;
        match Envelope::from_bytes(self.name.clone(), id.clone(), &bytes) {
            Ok(envelope) => Ok(Read::Whole(Arc::new(envelope))),
            Err(error) => {
                let codec = CodecName::unreadable();
                let mut envelope = Envelope::new(id, "unreadable", codec, Bytes::from(bytes));
                envelope.queue = self.name.clone();
                envelope.push_failure(Failure::new(
                    1,
                    Timestamp::default(),
                    FailureKind::Decode,
                    error.to_string(),
                ));
                Ok(Read::Unreadable(Arc::new(envelope)))
            }
        }
    }
}

/// An envelope as it was found.
pub(super) enum Read {
    Whole(Arc<Envelope>),
    /// What stands in for bytes that are no envelope.
    Unreadable(Arc<Envelope>),
}

impl Read {
    pub(super) fn either(self) -> Arc<Envelope> {
        match self {
            Self::Whole(envelope) | Self::Unreadable(envelope) => envelope,
        }
    }
}

impl RedisBroker {
    /// Lists the queue among all, before its first task; now and then again, for it may have been deleted meanwhile. What has a task is
    /// served whether or not it is listed, so one that cannot be listed for now, since the list is on another shard of a
    /// Cluster, is listed later.
    pub(super) async fn list_queue(&self, queue: &Queue) -> Result<(), BrokerError> {
        let listed = *queue.listed.lock();
        if listed.is_some_and(|since| since.elapsed() < LIST_AGAIN) {
            return Ok(());
        }
        if !self.link().is_cluster() {
            return self.list(queue).await;
        }
        let listing = {
            let (broker, queue) = (self.clone(), self.queue(&queue.name));
            async move { broker.list(&queue).await }
        };
        if listed.is_none() {
            match tokio::time::timeout(LIST_PATIENCE, self.list(queue)).await {
                Ok(Err(error)) if !error.is_temporary() => return Err(error),
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        // Not again for each task.
        *queue.listed.lock() = Some(Instant::now());
        let queue = self.queue(&queue.name);
        let in_background = async move {
            if let Err(error) = listing.await {
                tracing::warn!(queue = %queue.name, %error, "the queue could not be listed among all; tried again with its next task");
                *queue.listed.lock() = None;
            }
        };
        // Without its thread there are no connections either.
        spawn(in_background)
            .map(drop)
            .map_err(|error| BrokerError::unavailable(error.to_string()).caused_by(error))
    }

    async fn list(&self, queue: &Queue) -> Result<(), BrokerError> {
        self.set_listed(&queue.name, true).await?;
        *queue.listed.lock() = Some(Instant::now());
        Ok(())
    }

    /// Puts a name among those of all queues, or removes it.
    pub(super) async fn set_listed(&self, name: &Name, is_listed: bool) -> Result<(), BrokerError> {
        let names = &*self.queues_key();
        let args = script::name::Args {
            not_after: self.script_clock(),
            add: if is_listed { "y" } else { "" },
            name: name.as_str(),
        };
        let call = script::name::call(script::name::Keys { names }, args);
        call.send(self.link()).await.map(drop)
    }

    /// As [`each_queue_by_itself`](Self::each_queue_by_itself), for a caller that needs all answers or none.
    pub(super) async fn each_queue<I, R, F>(
        &self,
        items: Vec<I>,
        queue_of: impl Fn(&I) -> &Name,
        answer: impl Fn(Arc<Queue>, Vec<I>) -> F,
    ) -> Result<Vec<R>, BrokerError>
    where
        F: Future<Output = Result<Vec<R>, BrokerError>>,
    {
        let each = |queue, items: Vec<I>| {
            let count = items.len();
            let answered = answer(queue, items);
            async move { each_of(answered.await, count) }
        };
        let answers = self.each_queue_by_itself(items, queue_of, each).await;
        answers.into_iter().collect()
    }

    /// Splits items by queue, lets `answer` see to those of one queue, in their order, and puts the answers in the order
    /// of the items. Queues are seen to at the same time, each to its end, whatever becomes of the others.
    pub(super) async fn each_queue_by_itself<I, R, F>(
        &self,
        items: Vec<I>,
        queue_of: impl Fn(&I) -> &Name,
        answer: impl Fn(Arc<Queue>, Vec<I>) -> F,
    ) -> Each<R>
    where
        F: Future<Output = Each<R>>,
    {
        let Some(first) = items.first().map(|item| queue_of(item).clone()) else {
            return Vec::new();
        };
        if items.iter().all(|item| *queue_of(item) == first) {
            return answer(self.queue(&first), items).await;
        }
        let mut answers = Vec::new();
        answers.resize_with(items.len(), || None);
        let mut groups: Vec<(Name, Vec<usize>, Vec<I>)> = Vec::new();
        let mut known = std::collections::HashMap::new();
        for (place, item) in items.into_iter().enumerate() {
            let group = *known
                .entry(queue_of(&item).clone())
                .or_insert_with_key(|name| {
                    groups.push((name.clone(), Vec::new(), Vec::new()));
                    groups.len() - 1
                });
            groups[group].1.push(place);
            groups[group].2.push(item);
        }
        let calls = groups.into_iter().map(|(name, places, items)| {
            let answered = answer(self.queue(&name), items);
            async move { (places, answered.await) }
        });
        for (places, answered) in join_all(calls).await {
            for (place, answer) in places.into_iter().zip(answered) {
                answers[place] = Some(answer);
            }
        }
        let short = || Err(BrokerError::protocol("fewer answers than questions"));
        let answers = answers.into_iter();
        answers.map(|answer| answer.unwrap_or_else(short)).collect()
    }

    /// Asks each queue, many at the same time: the answers, in the order of the queues.
    pub(super) async fn ask_each<R, F>(
        &self,
        queues: &[Name],
        ask: impl Fn(Arc<Queue>) -> F,
    ) -> Each<R>
    where
        F: Future<Output = Result<R, BrokerError>>,
    {
        let queues: Vec<_> = queues.iter().map(|name| self.queue(name)).collect();
        let asked = queues.into_iter().map(ask);
        stream::iter(asked).buffered(AT_ONCE).collect().await
    }
}

/// The most queues to ask at the same time: many, for the round trips to be few, and not so many that Redis has all of them to do
/// before the call of another.
const AT_ONCE: usize = 64;

/// The answers of one queue to `count` items.
pub(super) fn each_of<R>(answers: Result<Vec<R>, BrokerError>, count: usize) -> Each<R> {
    match answers {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(error) => std::iter::repeat_with(|| Err(error.clone()))
            .take(count)
            .collect(),
    }
}
