//! Giving up on handlers that don't stop.

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

/// How often to look.
const INTERVAL: Duration = Duration::from_millis(100);

/// The timeout layer ends a handler that waits right at its deadline; one that still runs after this long more blocks
/// its thread.
const GRACE: Duration = Duration::from_millis(200);

/// Hooks and layers that see a timeout have this long to react to it, such as to call another service.
const HOOK_GRACE: Duration = Duration::from_secs(10);

/// A handler that keeps its thread for this long is reported.
const BLOCKS: Duration = Duration::from_secs(1);

impl Shared {
    /// Keeps slots open and going, and gives up on what is overdue.
    pub(super) async fn watch_slots(self: Arc<Self>) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut blocked = Blocked::default();
        while self.runs_until(ticks.tick()).await {
            self.give_up_overdue();
            self.replace_ended();
            self.give_back_hoarded();
            self.inbox.nudge();
            blocked.look(&self.slots.polls(), Instant::now());
            self.meter.set(self.slots.open(), self.slots.abandoned());
            if !self.stopping.is_cancelled() {
                self.open_slots();
            }
        }
    }

    fn give_up_overdue(self: &Arc<Self>) {
        let now = Instant::now();
        let grace = self.settings.cancel_grace;
        for running in self
            .slots
            .give_up(|running| is_overdue(running, now, grace))
        {
            tracing::warn!(task = %running.context.task_ref(), event = %running.context.event(),
                abandoned = self.slots.abandoned(), "handler did not stop in time; its slot is given up");
            self.conclude_aside(running, overdue);
        }
    }

    /// Records what slots ran whose future has ended by a panic outside of every catch.
    fn replace_ended(self: &Arc<Self>) {
        for running in self.slots.remove_ended() {
            tracing::error!(task = %running.context.task_ref(), event = %running.context.event(),
                "a slot ended unexpectedly; another takes its place");
            self.conclude_aside(running, |_| {
                let message = "panicked outside of its handler";
                TaskError::of(TaskErrorKind::Retry, FailureKind::Panic, message)
            });
        }
    }

    /// Records a failure from a thread of the application's: its callbacks see the error, and may block.
    fn conclude_aside(self: &Arc<Self>, running: Running, error: fn(&Running) -> TaskError) {
        let shared = Arc::clone(self);
        let conclude = move || shared.conclude_failed(&running, &error(&running));
        match self.slots.runtime() {
            Some(runtime) if !ambient::is_simulated() => drop(runtime.spawn_blocking(conclude)),
            _ => conclude(),
        }
    }

    /// Gives back, untouched, all that still runs.
    pub(super) fn give_back_all(&self) {
        // Each goes to the front of its queue: the last one first keeps their order.
        for running in self.slots.give_up(|_| true).into_iter().rev() {
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

/// Why a handler that did not stop in time has failed.
fn overdue(running: &Running) -> TaskError {
    if running.cancelled.is_some() {
        // The broker knows by whom it was cancelled and why, and adds that.
        let message = "cancelled, and did not stop in time; its handler may still be running";
        return TaskError::of(TaskErrorKind::Retry, FailureKind::Cancelled, message);
    }
    let timeout = expired(&running.context);
    let message = if running.context.is_blocking() {
        format!("{timeout}; its blocking code did not stop, and may still be running")
    } else {
        format!(
            "{timeout}; its handler blocks its thread, or a layer around it waits, and may still be running"
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
        // The timeout layer cancels its token once it has dropped the handler.
        HOOK_GRACE
    } else {
        GRACE
    };
    stopped_late || now >= running.context.end() + limit
}

/// Finds handlers that keep their thread, and reports each event once.
#[derive(Default)]
struct Blocked {
    /// The polls that were seen, by slot, and since when.
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
                tracing::warn!(%event, "a handler keeps its thread for over a second without awaiting, which holds up others; \
                    run blocking code by `Context::run_blocking` or mount it by `process_blocking`");
            }
        }
    }
}
