//! Abandoning handlers that do not stop.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Shared, running::Running};
use crate::{
    ambient,
    broker::Outcome,
    layer::expired,
    process::{TaskError, TaskErrorKind},
    task::{FailureKind, Name},
};

/// How often to check.
const INTERVAL: Duration = Duration::from_millis(100);

/// The timeout layer ends an awaiting handler right at its deadline. A handler that still runs this much later blocks
/// its thread.
const GRACE: Duration = Duration::from_millis(200);

/// How long hooks and layers may take to react to a timeout, for example to call another service.
const HOOK_GRACE: Duration = Duration::from_secs(10);

/// A handler that occupies its thread for this long is reported.
const BLOCKS: Duration = Duration::from_secs(1);

impl Shared {
    /// Keeps slots open and running, and abandons overdue handlers.
    pub(super) async fn watch_slots(self: Arc<Self>) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut blocked = Blocked::default();
        while self.runs_until(ticks.tick()).await {
            self.abandon_overdue();
            self.replace_ended();
            self.release_hoarded();
            self.inbox.nudge();
            blocked.look(&self.slots.polls(), Instant::now());
            self.meter.set(self.slots.open(), self.slots.abandoned());
            if !self.stopping.is_cancelled() {
                self.open_slots();
            }
        }
    }

    fn abandon_overdue(self: &Arc<Self>) {
        let now = Instant::now();
        let grace = self.settings.cancel_grace;
        for running in self
            .slots
            .abandon_if(|running| is_overdue(running, now, grace))
        {
            tracing::warn!(task = %running.context.task_ref(), event = %running.context.event(),
                abandoned = self.slots.abandoned(), "the handler did not stop in time; its slot is abandoned");
            self.conclude_on_runtime(running, overdue);
        }
    }

    /// Records the tasks of slots whose future ended by a panic that nothing caught.
    fn replace_ended(self: &Arc<Self>) {
        for running in self.slots.remove_ended() {
            tracing::error!(task = %running.context.task_ref(), event = %running.context.event(),
                "a slot ended unexpectedly; it is replaced");
            self.conclude_on_runtime(running, |_| {
                let message = "panicked outside of the handler";
                TaskError::of(TaskErrorKind::Retry, FailureKind::Panic, message)
            });
        }
    }

    /// Records a failure on a thread of the application, since its callbacks see the error and may block.
    fn conclude_on_runtime(self: &Arc<Self>, running: Running, error: fn(&Running) -> TaskError) {
        let shared = Arc::clone(self);
        let conclude = move || shared.conclude_failed(&running, &error(&running));
        match self.slots.runtime() {
            Some(runtime) if !ambient::is_simulated() => drop(runtime.spawn_blocking(conclude)),
            _ => conclude(),
        }
    }

    /// Releases all running tasks without counting an attempt.
    pub(super) fn release_running(&self) {
        // Each goes to the front of its queue. Releasing the last one first keeps the order.
        for running in self.slots.abandon_if(|_| true).into_iter().rev() {
            let envelope = Arc::clone(running.context.envelope());
            let token = running.token;
            self.outbox.push(crate::broker::Settlement {
                leased: running.leased,
                envelope,
                token,
                outcome: Outcome::Release,
                only_if_expired: false,
            });
            self.inbox.finished(running.queue);
        }
    }
}

/// The error of a handler that did not stop in time.
fn overdue(running: &Running) -> TaskError {
    if running.cancelled.is_some() {
        // The broker adds who cancelled it and why.
        let message = "cancelled, but the handler did not stop in time and may still be running";
        return TaskError::of(TaskErrorKind::Retry, FailureKind::Cancelled, message);
    }
    let timeout = expired(&running.context);
    let message = if running.context.is_blocking() {
        format!("{timeout}; its blocking code did not stop and may still be running")
    } else {
        format!(
            "{timeout}; the handler blocks its thread or a layer around it waits, and may still be running"
        )
    };
    TaskError::of(timeout.kind(), timeout.failure_kind(), message)
}

fn is_overdue(running: &Running, now: Instant, grace: Duration) -> bool {
    let stopped_late = running
        .cancelled
        .is_some_and(|since| now.duration_since(since) >= grace);
    let limit = if running.context.is_blocking() {
        grace
    } else if running.context.is_cancelled() {
        // The timeout layer cancels the token once it has dropped the handler.
        HOOK_GRACE
    } else {
        GRACE
    };
    stopped_late || now >= running.context.end() + limit
}

/// Finds handlers that block their thread, and reports each event once.
#[derive(Default)]
struct Blocked {
    /// The polls seen last, by slot, and when each was first seen.
    polls: HashMap<usize, (u32, Instant)>,
    reported: HashSet<Name>,
}

impl Blocked {
    fn look(&mut self, polls: &[(usize, u32, Name)], now: Instant) {
        let before = std::mem::take(&mut self.polls);
        for (slot, poll, event) in polls {
            let seen = before.get(slot).filter(|(seen, _)| seen == poll);
            let since = seen.map_or(now, |(_, since)| *since);
            self.polls.insert(*slot, (*poll, since));
            if now.duration_since(since) >= BLOCKS && self.reported.insert(event.clone()) {
                tracing::warn!(%event, "a handler has blocked its thread for over a second, which delays other tasks; run blocking code \
                 with `Context::run_blocking`, or register the handler with `process_blocking`");
            }
        }
    }
}
