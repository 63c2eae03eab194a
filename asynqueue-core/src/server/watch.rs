//! Giving up on handlers that don't stop.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};

use super::{Counters, Shared, running::Running};
use crate::{
    broker::Outcome,
    layer::expired,
    process::{TaskError, TaskErrorKind},
    task::FailureKind,
};

/// How often to look.
const INTERVAL: Duration = Duration::from_millis(100);

/// The timeout layer ends a handler that waits right at its deadline; one that still runs after this long more blocks
/// its thread.
const GRACE: Duration = Duration::from_millis(200);

/// Hooks and layers that hear of a timeout have this long for what they do about it, such as to tell another service.
const HOOK_GRACE: Duration = Duration::from_secs(10);

impl Shared {
    /// Keeps slots open and going, and gives up on what is overdue.
    pub(super) async fn watch_slots(self: Arc<Self>) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.runs_until(ticks.tick()).await {
            self.give_up_overdue();
            self.inbox.nudge();
            self.meter.set(self.slots.open(), self.slots.abandoned());
            if !self.stopping.is_cancelled() {
                self.open_slots();
            }
        }
    }

    fn give_up_overdue(&self) {
        let now = Instant::now();
        let grace = self.settings.cancel_grace;
        for running in self
            .slots
            .give_up(|running| is_overdue(running, now, grace))
        {
            tracing::warn!(task = %running.context.task_ref(), event = %running.context.event(),
                abandoned = self.slots.abandoned(), "handler did not stop in time; its slot is given up");
            let error = if running.cancelled.is_some() {
                // The broker knows who cancelled it and why, and adds that.
                let message =
                    "cancelled, and did not stop in time; its handler may still be running";
                TaskError::of(TaskErrorKind::Retry, FailureKind::Cancelled, message)
            } else {
                let timeout = expired(&running.context);
                let message = format!(
                    "{timeout}; its handler blocks its thread, or a layer around it waits, and may still be running"
                );
                TaskError::of(timeout.kind(), timeout.failure_kind(), message)
            };
            self.outbox
                .push(self.failed(&running.context, running.token, &error));
            Counters::add(&self.counters.finished, 1);
            self.inbox.finished(running.queue);
        }
    }

    /// Gives back, untouched, all that still runs.
    pub(super) fn give_back_all(&self) {
        // Each goes to the front of its queue: the last one first keeps their order.
        for running in self.slots.give_up(|_| true).into_iter().rev() {
            let envelope = Arc::clone(running.context.envelope());
            let token = running.token;
            self.outbox.push(crate::broker::Settlement {
                envelope,
                token,
                outcome: Outcome::Release,
                only_if_expired: false,
            });
            self.inbox.finished(running.queue);
        }
    }
}

fn is_overdue(running: &Running, now: Instant, grace: Duration) -> bool {
    let stopped_late = running
        .cancelled
        .is_some_and(|since| now.duration_since(since) >= grace);
    // Its token is cancelled once the timeout layer has dropped the handler.
    let limit = if running.context.is_cancelled() {
        HOOK_GRACE
    } else {
        GRACE
    };
    stopped_late || now >= running.context.deadline() + limit
}
