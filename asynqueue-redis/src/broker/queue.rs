//! What this process knows of one queue.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use asynqueue_core::{
    BrokerError, CodecName, Envelope, Failure, FailureKind, Name, TaskId, Timestamp,
};
use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;

use super::{RedisBroker, known_upkeep::Upkeep, leftovers::Rounds, waiters::Waiters};
use crate::{keys::QueueKeys, lanes::Lanes};

/// How often a queue that is in use is listed among all.
const LIST_AGAIN: Duration = Duration::from_secs(60);

/// One queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: Name,
    pub(super) keys: QueueKeys,
    /// For changes that are of no use once whoever asked for them is gone.
    pub(super) changes: Lanes,
    /// For leases, which are somebody's even when the answer was lost.
    pub(super) leases: Lanes,
    pub(super) waiters: Waiters,
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
    pub(super) fn new(prefix: &str, name: Name, instance: u64) -> Self {
        Self {
            keys: QueueKeys::new(prefix, &name),
            name,
            changes: Lanes::new(format!("{instance:016x}c")),
            leases: Lanes::new(format!("{instance:016x}l")),
            waiters: Waiters::default(),
            listed: Mutex::default(),
            repaired: Mutex::default(),
            rounds: Mutex::default(),
            upkeep: Mutex::default(),
        }
    }

    /// Reads an envelope. One that cannot be read is put into an envelope of its own, with the reason, so that it can be
    /// archived by itself and looked at.
    pub(super) fn envelope(&self, id: &str, bytes: Vec<u8>) -> Result<Read, BrokerError> {
        let id = TaskId::new(id).map_err(|error| BrokerError::Protocol(error.to_string()))?;
        match Envelope::from_bytes(self.name.clone(), id.clone(), &bytes) {
            Ok(envelope) => Ok(Read::Whole(Arc::new(envelope))),
            Err(error) => {
                let codec = CodecName::unreadable();
                let mut envelope = Envelope::new(id, "unreadable", codec, Bytes::from(bytes));
                envelope.queue = self.name.clone();
                envelope.push_failure(Failure {
                    attempt: 1,
                    started: None,
                    at: Timestamp::default(),
                    kind: FailureKind::Decode,
                    message: error.to_string(),
                    backtrace: None,
                    worker: None,
                });
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
    /// Lists the queue among all, before its first task; now and then again, for it may have been deleted meanwhile.
    pub(super) async fn list_queue(&self, queue: &Queue) -> Result<(), BrokerError> {
        let listed = *queue.listed.lock();
        if listed.is_none_or(|since| since.elapsed() >= LIST_AGAIN) {
            let mut command = redis::cmd("SADD");
            command.arg(self.queues_key()).arg(queue.name.as_str());
            self.command(&command).await?;
            *queue.listed.lock() = Some(Instant::now());
        }
        Ok(())
    }

    /// Splits items by queue, lets `answer` see to those of one queue, in their order, and puts the answers in the order
    /// of the items. Queues are seen to at the same time, each to its end, whatever becomes of the others.
    pub(super) async fn each_queue<I, R, F>(
        &self,
        items: Vec<I>,
        queue_of: impl Fn(&I) -> &Name,
        answer: impl Fn(Arc<Queue>, Vec<I>) -> F,
    ) -> Result<Vec<R>, BrokerError>
    where
        F: Future<Output = Result<Vec<R>, BrokerError>>,
    {
        let Some(first) = items.first().map(|item| queue_of(item).clone()) else {
            return Ok(Vec::new());
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
            async move { Ok::<_, BrokerError>((places, answered.await?)) }
        });
        for answered in join_all(calls).await {
            let (places, answered) = answered?;
            for (place, answer) in places.into_iter().zip(answered) {
                answers[place] = Some(answer);
            }
        }
        let short = || BrokerError::Protocol("fewer answers than questions".into());
        answers
            .into_iter()
            .map(|answer| answer.ok_or_else(short))
            .collect()
    }
}
