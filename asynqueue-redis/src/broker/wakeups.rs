//! Waking servers: hearing of what is pending, and passing on a wake-up that finds no room.
//!
//! A lease that finds fewer tasks than it asks for puts this instance among those that wait ([`tag_to_wake`]). A task that becomes
//! pending takes one of them out, and is signalled to it alone: so the cost of a task does not grow with the number of servers.
//! In turn, an instance that is woken answers for it: it leases, or it passes the wake-up on.
//!
//! [`tag_to_wake`]: RedisBroker::tag_to_wake

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue_core::{
    Broker, BrokerError, Name, Outcome, Settlement, Signal, Signals, TaskId, TaskRef, Timestamp,
};
use futures_util::{StreamExt, future::join_all, stream};

use super::{RedisBroker, queue::Queue};
use crate::{
    keys,
    link::{self, Message},
    script,
};

/// How long an instance counts as waiting without asking again. A server asks each of its queues again, of thousands in
/// minutes.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(3600);

/// What this instance knows of its wake-ups in one queue.
#[derive(Debug, Default)]
pub(super) struct Wakeups {
    /// Whether a wake-up came to this instance alone, and nothing was leased since.
    is_woken: AtomicBool,
    /// Whether nothing here handles the tasks that came last.
    is_of_no_use: AtomicBool,
}

impl Wakeups {
    /// Notes whether anything here handles what was leased. A server of a build before a new event gives its tasks back faster than
    /// another works, so it would be woken for most of them: while it handles none, it is woken only where nobody else waits.
    pub(super) fn note_outcomes(&self, ended: &[&Settlement]) {
        let is_handled = |one: &&Settlement| {
            let is_later = matches!(one.outcome, Outcome::Snooze { .. });
            !is_later || one.envelope.unhandled_since().is_none()
        };
        self.is_of_no_use
            .store(!ended.iter().any(is_handled), SeqCst);
    }
}

impl RedisBroker {
    pub(super) async fn listen_to(&self, queues: &[Name]) -> Result<Signals, BrokerError> {
        if queues.is_empty() {
            return Ok(stream::pending().boxed());
        }
        let queues: Vec<_> = queues.iter().map(|name| self.queue(name)).collect();
        let mut channels = HashMap::with_capacity(2 * queues.len());
        for queue in &queues {
            channels.insert(queue.keys.events.clone(), Arc::clone(queue));
            channels.insert(queue.keys.own_events.clone(), Arc::clone(queue));
        }
        let names: Vec<_> = channels.keys().cloned().collect();
        let messages = self.link().listen(names).await?;
        let listening = Listening::new(self.clone(), queues);
        // In this order they are dropped: nothing is heard any more once this instance leaves.
        let parts = (messages, channels, listening);
        let signals = stream::unfold(parts, async |(mut messages, channels, listening)| {
            loop {
                let message = messages.recv().await?;
                let queue = channels.get(&message.channel);
                if let Some(signal) = queue.and_then(|queue| listening.signal(queue, &message)) {
                    return Some((signal, (messages, channels, listening)));
                }
            }
        });
        Ok(signals.boxed())
    }

    /// What a lease is to be woken by where it finds too little: nothing unless somebody listens, and where Redis does not know
    /// whether a message reaches anybody.
    pub(super) fn tag_to_wake(&self, queue: &Queue) -> String {
        queue.wakeups.is_woken.store(false, SeqCst);
        let is_here = queue.upkeep.lock().listening > 0;
        let is_of_use = !queue.wakeups.is_of_no_use.load(SeqCst);
        if is_here && is_of_use && self.link().counts_receivers() {
            keys::tag(self.0.instance)
        } else {
            String::new()
        }
    }

    /// Wakes the servers of this instance for what a lease has left.
    pub(super) fn wake_again(&self, queue: &Queue) {
        self.link().say(&Message {
            channel: queue.keys.own_events.clone(),
            payload: b"p".to_vec(),
        });
    }

    /// Wakes another for what this instance was woken for.
    pub(super) async fn pass_wakeup_on(&self, queue: &Queue) -> Result<(), BrokerError> {
        if queue.wakeups.is_woken.swap(false, SeqCst) {
            self.wake_others(queue, "").await?;
        }
        Ok(())
    }

    async fn wake_others(&self, queue: &Queue, leaving: &str) -> Result<(), BrokerError> {
        let args = script::wake::Args {
            not_after: self.script_clock(),
            publish: self.link().publish_command(),
            leaving,
        };
        let call = script::wake::call(&queue.keys, args);
        call.send(self.link()).await.map(drop)
    }

    /// Takes this instance out of those that wait, and wakes others for what it may have been woken for.
    async fn leave_queues(self, queues: Vec<Arc<Queue>>) {
        self.link().tidy_channels().await;
        let tag = keys::tag(self.0.instance);
        let left = queues
            .iter()
            .filter(|queue| queue.upkeep.lock().listening == 0)
            .map(|queue| self.wake_others(queue, &tag));
        for error in join_all(left).await.into_iter().filter_map(Result::err) {
            if !matches!(error, BrokerError::Closed) {
                tracing::debug!(%error, "a queue could not be left; its next task wakes one server more");
            }
        }
    }
}

/// A stream of signals, for as long as it is listened to.
struct Listening {
    broker: RedisBroker,
    queues: Vec<Arc<Queue>>,
}

impl Listening {
    fn new(broker: RedisBroker, queues: Vec<Arc<Queue>>) -> Self {
        for queue in &queues {
            queue.upkeep.lock().listens();
        }
        Self { broker, queues }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut left = std::mem::take(&mut self.queues);
        left.retain(|queue| queue.upkeep.lock().stops_listening());
        // Where no thread can be started there is no connection either.
        let _ = link::spawn(self.broker.clone().leave_queues(left));
    }
}

impl Listening {
    /// What a message says to servers; none if it is of a later version. Its part about the upkeep is noted here.
    fn signal(&self, queue: &Queue, message: &Message) -> Option<Signal> {
        let name = queue.name.clone();
        let text = std::str::from_utf8(&message.payload).ok()?;
        let (kind, rest) = text.split_at_checked(1)?;
        match kind {
            "p" => {
                if message.channel == queue.keys.own_events {
                    queue.wakeups.is_woken.store(true, SeqCst);
                }
                Some(Signal::Pending(name))
            }
            "d" => {
                let due = Timestamp::from_millis(rest.parse().ok()?);
                queue.upkeep.lock().hear(due);
                Some(Signal::Due(name, due))
            }
            // Its owner has given it up: an owner is wanted at once, as for a task that is due.
            "o" => {
                self.broker.note_free(queue);
                Some(Signal::Due(name, self.broker.now()))
            }
            "c" => Some(Signal::Cancel(TaskRef::new(name, TaskId::new(rest).ok()?))),
            _ => None,
        }
    }
}
