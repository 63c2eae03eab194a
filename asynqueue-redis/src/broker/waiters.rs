//! Waiting for tasks to end: by notification, and now and then by a look.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use asynqueue_core::{BrokerError, CodecName, Envelope, Finished, TaskId, TaskRef};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{RedisBroker, queue::Queue};
use crate::{
    link::{self, Message},
    reply, script,
};

/// How long a note that someone waits is good for; it is renewed while someone does.
const NOTE: Duration = Duration::from_secs(30);

/// How often to look, should a notification have been lost.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How soon to look again while there are no notifications; twice as long each time, up to a second.
const LOOK_WITHOUT: Duration = Duration::from_millis(20);

/// Those in this process who wait for tasks of one queue. They share one subscription.
#[derive(Debug, Default)]
pub(super) struct Waiters(tokio::sync::Mutex<Weak<Waiting>>);

/// Dropped by the last of those who wait, which ends the subscription.
#[derive(Debug)]
struct Waiting(Arc<Mutex<Option<Senders>>>);

/// `None` once the subscription has ended.
type Senders = HashMap<String, Vec<oneshot::Sender<Vec<u8>>>>;

impl RedisBroker {
    /// Looks how a task has ended whenever it is notified about. So results go to the one that waits for them, and a notification
    /// about another's task of the same name, of a program that shares the channel, ends nothing.
    pub(super) async fn wait_for(&self, task: &TaskRef) -> Result<Finished, BrokerError> {
        let queue = self.queue(&task.queue);
        let (mut wait, mut told) = (LOOK_WITHOUT, None);
        loop {
            // Before the look, so that nothing falls between the two. Without it, looking has to do.
            let waiting = self.subscribe(&queue).await.ok();
            let ended = waiting.as_ref().map(|waiting| waiting.wait_for(&task.id));
            let envelope = match self.look_for_end(&queue, task).await? {
                Look::Ended(Finished::Gone) => return Ok(told.unwrap_or(Finished::Gone)),
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
            told = message
                .ok()
                .and_then(Result::ok)
                .and_then(|message| not_kept(&envelope, &message));
        }
    }

    async fn subscribe(&self, queue: &Queue) -> Result<Arc<Waiting>, BrokerError> {
        // Held over the call, for one to subscribe and the others to wait for it.
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
        link::spawn(passing_on)
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

/// What a notification says of a task that completed and is not kept, which nothing else has.
fn not_kept(envelope: &Envelope, message: &[u8]) -> Option<Finished> {
    // Its result, marked by an `r`, or none.
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
    /// Resolves to the message on a task's end; to an error if the subscription ends.
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

/// Passes messages on to those who wait, until there are none or the subscription ends.
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
            // Those who wait look again.
            *senders.lock() = None;
            return;
        };
        let Some(end) = message.payload.iter().position(|byte| *byte == b'\n') else {
            continue;
        };
        let (id, rest) = message.payload.split_at(end);
        let told = std::str::from_utf8(id)
            .ok()
            .and_then(|id| senders.lock().as_mut()?.remove(id));
        for sender in told.into_iter().flatten() {
            // Whoever has stopped waiting has nothing to be told.
            let _ = sender.send(rest[1..].to_vec());
        }
    }
}
