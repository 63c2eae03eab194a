//! Waking servers: receiving signals of pending tasks, and passing on a wake-up that finds no free worker.
//!
//! A lease call that finds fewer tasks than requested adds this instance to the waiting ones ([`tag_to_wake`]). A task
//! that becomes pending takes one instance out and signals it alone, so the cost of a task does not depend on the
//! number of servers. An instance that is woken is responsible for the wake-up: it leases, or passes the wake-up on.
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
    broker::{Broker, BrokerError, Outcome, Settlement, Signal, Signals, kit},
    task::{Name, TaskId, TaskRef, Timestamp},
};
use futures_util::{StreamExt, future::join_all, stream};

use super::{RedisBroker, queue::Queue};
use crate::{keys, link::Message, script};

/// How long an instance counts as waiting without a new lease call. A server polls each of its queues again, thousands
/// of them within minutes.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(3600);

/// The wake-ups of this instance in one queue.
#[derive(Debug, Default)]
pub(super) struct Wakeups {
    /// Whether this instance alone was woken, and has leased nothing since.
    is_woken: AtomicBool,
    /// Whether this instance handled none of the last tasks.
    handles_none: AtomicBool,
}

impl Wakeups {
    /// Notes whether this instance handles the leased tasks. A server of a build without a new event would release its
    /// tasks faster than others work, and so be woken for most of them. While it handles none, it is woken only if no
    /// other instance waits.
    pub(super) fn note_outcomes(&self, ended: &[&Settlement]) {
        let is_handled = |one: &&Settlement| {
            let is_later = matches!(one.outcome, Outcome::Snooze { .. });
            !is_later || one.envelope.unhandled_since().is_none()
        };
        self.handles_none
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
        // Dropped in this order: no signals are received once this instance leaves.
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

    /// The tag to be woken by after a lease call that finds too little. Empty without a listener, or if Redis cannot
    /// count the receivers of a message.
    pub(super) fn tag_to_wake(&self, queue: &Queue) -> String {
        queue.wakeups.is_woken.store(false, SeqCst);
        let is_here = queue.upkeep.lock().listening > 0;
        let handles_tasks = !queue.wakeups.handles_none.load(SeqCst);
        if is_here && handles_tasks && self.link().counts_receivers() {
            keys::tag(self.0.instance)
        } else {
            String::new()
        }
    }

    /// Wakes the servers of this instance for the tasks that a lease call has left.
    pub(super) fn wake_again(&self, queue: &Queue) {
        self.link().notify_local(&Message {
            channel: queue.keys.own_events.clone(),
            payload: b"p".to_vec(),
        });
    }

    /// Passes a wake-up of this instance on to another.
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

    /// Removes this instance from the waiting ones, and wakes others for its wake-ups.
    async fn leave_queues(self, queues: Vec<Arc<Queue>>) {
        self.link().tidy_channels().await;
        let tag = keys::tag(self.0.instance);
        let left = queues
            .iter()
            .filter(|queue| queue.upkeep.lock().listening == 0)
            .map(|queue| self.wake_others(queue, &tag));
        for error in join_all(left).await.into_iter().filter_map(Result::err) {
            if !matches!(error, BrokerError::Closed) {
                tracing::debug!(%error, "could not leave the queue; its next task wakes one extra server");
            }
        }
    }
}

/// A stream of signals, while it is listened to.
struct Listening {
    broker: RedisBroker,
    queues: Vec<Arc<Queue>>,
}

impl Listening {
    fn new(broker: RedisBroker, queues: Vec<Arc<Queue>>) -> Self {
        for queue in &queues {
            queue.upkeep.lock().add_listener();
        }
        Self { broker, queues }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut left = std::mem::take(&mut self.queues);
        left.retain(|queue| queue.upkeep.lock().remove_listener());
        // If the thread cannot be started, there is no connection either.
        let _ = kit::io::spawn(self.broker.clone().leave_queues(left));
    }
}

impl Listening {
    /// The signal in a message. `None` if it comes from a later version. Its part about upkeep is noted here.
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
                queue.upkeep.lock().note_due(due);
                Some(Signal::Due(name, due))
            }
            // The owner has released the queue: a new owner is needed immediately, as for a due task.
            "o" => {
                self.broker.note_free(queue);
                Some(Signal::Due(name, self.broker.now()))
            }
            "c" => Some(Signal::Cancel(TaskRef::new(name, TaskId::new(rest).ok()?))),
            _ => None,
        }
    }
}
