//! Waiting for tasks to end: by notification, and from time to time by a lookup.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use asynqueue_core::{
    broker::{BrokerError, Finished, kit},
    codec::CodecName,
    task::{Envelope, TaskId, TaskRef},
};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{RedisBroker, queue::Queue};
use crate::{link::Message, reply, script};

/// How long the note that a task has waiters is valid. Waiters renew it.
const NOTE: Duration = Duration::from_secs(30);

/// How often to look the task up, in case a notification was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How soon to look again while there are no notifications. Doubles each time, up to a second.
const LOOK_WITHOUT: Duration = Duration::from_millis(20);

/// The waiters of one queue in this process. They share one subscription.
#[derive(Debug, Default)]
pub(super) struct Waiters(tokio::sync::Mutex<Weak<Waiting>>);

/// Dropped by the last waiter, which ends the subscription.
#[derive(Debug)]
struct Waiting(Arc<Mutex<Option<Senders>>>);

/// `None` once the subscription has ended.
type Senders = HashMap<String, Vec<oneshot::Sender<Vec<u8>>>>;

impl RedisBroker {
    /// Looks up how a task has ended after each notification about it. So a result stays with its waiter, and a
    /// notification about another task with the same id, from a program that shares the channel, ends nothing.
    pub(super) async fn wait_for(&self, task: &TaskRef) -> Result<Finished, BrokerError> {
        let queue = self.queue(&task.queue);
        let (mut wait, mut notified) = (LOOK_WITHOUT, None);
        loop {
            // Subscribes before the lookup, so that no notification is missed in between. Without a subscription,
            // lookups alone must do.
            let waiting = self.subscribe(&queue).await.ok();
            let ended = waiting.as_ref().map(|waiting| waiting.wait_for(&task.id));
            let envelope = match self.look_for_end(&queue, task).await? {
                Look::Ended(Finished::Gone) => return Ok(notified.unwrap_or(Finished::Gone)),
                Look::Ended(finished) => return Ok(finished),
                Look::Waits(envelope) => envelope,
            };
            let Some(ended) = ended else {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(1));
                continue;
            };
            wait = LOOK_WITHOUT;
            let message = tokio::time::timeout(LOOK_AGAIN, ended).await;
            notified = message
                .ok()
                .and_then(Result::ok)
                .and_then(|message| not_kept(&envelope, &message));
        }
    }

    async fn subscribe(&self, queue: &Queue) -> Result<Arc<Waiting>, BrokerError> {
        // Locked during the call, so that one waiter subscribes and the others wait for it.
        let mut shared = queue.waiters.0.lock().await;
        if let Some(waiting) = shared
            .upgrade()
            .filter(|waiting| waiting.0.lock().is_some())
        {
            return Ok(waiting);
        }
        let messages = self.link().listen(vec![queue.keys.done.clone()]).await?;
        let senders = Arc::new(Mutex::new(Some(Senders::new())));
        let waiting = Arc::new(Waiting(Arc::clone(&senders)));
        let passing_on = pass_on(messages, senders, Arc::downgrade(&waiting));
        kit::io::spawn(passing_on)
            .map_err(|error| BrokerError::unavailable(error.to_string()).caused_by(error))?;
        *shared = Arc::downgrade(&waiting);
        Ok(waiting)
    }

    async fn look_for_end(&self, queue: &Queue, task: &TaskRef) -> Result<Look, BrokerError> {
        let args = script::wait::Args {
            not_after: self.script_clock(),
            id: task.id.as_str(),
            millis: NOTE.as_millis() as u64,
        };
        let call = script::wait::call(&queue.keys, args);
        let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
        let state = reply::text(reply::next(&mut answer)?)?;
        let envelope = reply::bytes(reply::next(&mut answer)?)?;
        let result = reply::some_bytes(reply::next(&mut answer)?)?;
        if state.is_empty() {
            return Ok(Look::Ended(Finished::Gone));
        }
        let envelope = queue.envelope(task.id.as_str(), envelope)?.either();
        Ok(match state.as_str() {
            "completed" => Look::Ended(completed(result.map(Bytes::from), &envelope.codec)),
            "archived" => Look::Ended(archived(&envelope)),
            _ => Look::Waits(envelope),
        })
    }
}

enum Look {
    Ended(Finished),
    Waits(Arc<Envelope>),
}

/// The outcome in a notification of a task that completed and is not kept. It is stored nowhere else.
fn not_kept(envelope: &Envelope, message: &[u8]) -> Option<Finished> {
    // `r` and the result, or nothing.
    let result = message.strip_prefix(b"c")?.strip_prefix(b"r");
    Some(completed(
        result.map(Bytes::copy_from_slice),
        &envelope.codec,
    ))
}

fn completed(result: Option<Bytes>, codec: &CodecName) -> Finished {
    Finished::Completed {
        result,
        codec: codec.clone(),
    }
}

fn archived(envelope: &Envelope) -> Finished {
    Finished::Archived {
        failure: envelope.last_failure().cloned().map(Box::new),
    }
}

impl Waiting {
    /// Resolves to the notification of a task's end, or to an error if the subscription ends.
    fn wait_for(&self, id: &TaskId) -> oneshot::Receiver<Vec<u8>> {
        let (sender, ended) = oneshot::channel();
        if let Some(senders) = self.0.lock().as_mut() {
            let senders = senders.entry(id.as_str().to_owned()).or_default();
            senders.retain(|sender| !sender.is_closed());
            senders.push(sender);
        }
        ended
    }
}

/// Passes notifications on to the waiters until there are none or the subscription ends.
async fn pass_on(
    mut messages: mpsc::UnboundedReceiver<Message>,
    senders: Arc<Mutex<Option<Senders>>>,
    waiting: Weak<Waiting>,
) {
    let mut sweep = tokio::time::interval(Duration::from_secs(1));
    loop {
        let message = tokio::select! {
            message = messages.recv() => message,
            _ = sweep.tick() => {
                let mut senders = senders.lock();
                let waited = |list: &mut Vec<oneshot::Sender<_>>| list.iter().any(|sender| !sender.is_closed());
                if let Some(senders) = senders.as_mut() {
                    senders.retain(|_, list| waited(list));
                }
                if waiting.strong_count() == 0 {
                    return;
                }
                continue;
            }
        };
        let Some(message) = message else {
            // The waiters look again.
            *senders.lock() = None;
            return;
        };
        let Some(end) = message.payload.iter().position(|byte| *byte == b'\n') else {
            continue;
        };
        let (id, rest) = message.payload.split_at(end);
        let notified = std::str::from_utf8(id)
            .ok()
            .and_then(|id| senders.lock().as_mut()?.remove(id));
        for sender in notified.into_iter().flatten() {
            // The caller may have stopped waiting.
            let _ = sender.send(rest[1..].to_vec());
        }
    }
}
