//! The state of one queue in this process.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{BrokerError, Each, kit, kit::Lanes},
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
use crate::{keys::QueueKeys, script};

/// How often a queue in use is added to the list of queues.
const LIST_AGAIN: Duration = Duration::from_secs(10);

/// How long the first task of a queue waits until the queue is listed. The list may be on a shard that is down.
const LIST_PATIENCE: Duration = Duration::from_millis(500);

/// One queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: Name,
    pub(super) keys: QueueKeys,
    /// Lanes for changes that are sent again only while their caller waits.
    pub(super) changes: Lanes,
    /// Lanes for leases, which stay valid even if the response was lost.
    pub(super) leases: Lanes,
    /// How much is leased at a time.
    pub(super) room: Room,
    /// The tag of the worker whose name was last written, and when.
    pub(super) named: Mutex<Option<(u32, Instant)>>,
    pub(super) waiters: Waiters,
    /// Tasks from concurrent `enqueue` calls.
    pub(super) single: Coalescers,
    pub(super) wakeups: Wakeups,
    /// When the queue was last added to the list of queues.
    pub(super) listed: Mutex<Option<Instant>>,
    /// When it was last repaired.
    pub(super) repaired: Mutex<Option<Instant>>,
    /// The progress of the removal of leftovers.
    pub(super) rounds: Mutex<Rounds>,
    /// The owner of the queue.
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

    /// Whether the worker's name was written. It is written again from time to time, because the queue may have been
    /// deleted.
    pub(super) fn is_named(&self, tag: u32) -> bool {
        (self.named.lock()).is_some_and(|(of, since)| of == tag && since.elapsed() < LIST_AGAIN)
    }

    /// Reads an envelope. An unreadable one is wrapped in a substitute with the reason, so that it can be archived and
    /// inspected.
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

/// An envelope as it was read.
pub(super) enum Read {
    Whole(Arc<Envelope>),
    /// The substitute for unreadable bytes.
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
    /// Adds the queue to the list of queues before its first task, and again from time to time because it may have been
    /// deleted. Servers serve a queue with tasks even if it is not listed. So if the list is on a shard of a Cluster
    /// that is down, the queue is listed later.
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
                tracing::warn!(queue = %queue.name, %error, "could not add the queue to the list of queues; retrying with its next task");
                *queue.listed.lock() = None;
            }
        };
        // Without the I/O thread there are no connections either.
        kit::io::spawn(in_background)
            .map(drop)
            .map_err(|error| BrokerError::unavailable(error.to_string()).caused_by(error))
    }

    async fn list(&self, queue: &Queue) -> Result<(), BrokerError> {
        self.set_listed(&queue.name, true).await?;
        *queue.listed.lock() = Some(Instant::now());
        Ok(())
    }

    /// Adds a name to the list of queues, or removes it.
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

    /// Like [`each_queue_by_itself`](Self::each_queue_by_itself), for callers that need all results or none.
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

    /// Splits items by queue, calls `answer` with the items of each queue in their order, and returns the results in
    /// the order of the items. The queues are processed concurrently, each to its end, whether or not others fail.
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
        let short = || Err(BrokerError::protocol("fewer results than items"));
        let answers = answers.into_iter();
        answers.map(|answer| answer.unwrap_or_else(short)).collect()
    }

    /// Calls `ask` for each queue, many concurrently. Returns the results in the order of the queues.
    pub(super) async fn for_each_queue<R, F>(
        &self,
        queues: &[Name],
        ask: impl Fn(Arc<Queue>) -> F,
    ) -> Each<R>
    where
        F: Future<Output = Result<R, BrokerError>>,
    {
        let queues: Vec<_> = queues.iter().map(|name| self.queue(name)).collect();
        let calls = queues.into_iter().map(ask);
        stream::iter(calls).buffered(MAX_CONCURRENT).collect().await
    }
}

/// The limit of concurrent queues. More would need fewer round trips, but Redis would serve all of them before other
/// callers.
const MAX_CONCURRENT: usize = 64;

/// The results of one queue for `count` items.
pub(super) fn each_of<R>(answers: Result<Vec<R>, BrokerError>, count: usize) -> Each<R> {
    match answers {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(error) => std::iter::repeat_with(|| Err(error.clone()))
            .take(count)
            .collect(),
    }
}
