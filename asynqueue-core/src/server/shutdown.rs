//! Graceful shutdown, and releasing tasks that cannot start soon.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Shared, signals::SignalRequests};
use crate::{
    broker::{Leased, Outcome},
    process::Context,
    trace,
};

/// A leased task that has waited longer than this for a slot is released.
const HOARDED: Duration = Duration::from_millis(100);

/// How long to wait for a lease call that is under way when the server stops, and then for the last outcomes to be recorded.
///
/// With the default timeouts and [`LAST_HOOKS`], a server stops within 26 s and an application within 29 s. Platforms allow 30 s.
const LAST_CALLS: Duration = Duration::from_secs(3);

/// How long hooks and callbacks may run after that.
pub(super) const LAST_HOOKS: Duration = Duration::from_secs(2);

/// The same limits after a second signal.
const IN_HASTE: Duration = Duration::from_secs(1);

impl Shared {
    /// Releases tasks that have not started.
    pub(super) fn release_waiting(&self) {
        // Each goes to the front of its queue. Releasing the last one first keeps the order.
        for job in self.inbox.close().into_iter().rev() {
            self.release(job.leased, job.queue);
        }
    }

    /// Releases tasks that this server cannot start soon, so that another can run them.
    pub(super) fn release_hoarded(&self) {
        let hoarded = self.inbox.take_hoarded(HOARDED, Instant::now());
        for job in hoarded.into_iter().rev() {
            self.release(job.leased, job.queue);
        }
    }

    /// Releases a leased task that has not started.
    pub(super) fn release(&self, leased: Leased, queue: usize) {
        self.outbox.push(leased.settle(Outcome::Release));
        self.inbox.finished(queue);
    }

    /// Releases a task whose attempt was stopped.
    pub(super) fn release_started(&self, context: &Context, leased: Leased, queue: usize) {
        let mut settlement = leased.settle(Outcome::Release);
        trace::carry_on(&context.take_span(), &mut settlement);
        self.outbox.push(settlement);
        self.inbox.finished(queue);
    }

    /// Waits for running tasks, and releases them after the shutdown timeout or at a second signal.
    pub(super) async fn wind_down(self: &Arc<Self>) {
        let hurry = &SignalRequests::of_process().hurry;
        let idle = || self.inbox.load_at_most(0);
        let finished = tokio::select! {
            finished = within(self.settings.shutdown_timeout, idle()) => finished,
            () = hurry.cancelled() => false,
        };
        if !finished {
            tracing::warn!(
                running = self.slots.busy(),
                "shutdown timeout elapsed; cancelling running tasks"
            );
            self.slots.each(|running| running.context.cut_off());
            tokio::select! {
                _ = within(self.settings.cancel_grace, idle()) => {}
                () = hurry.cancelled() => {}
            }
            self.release_running();
        }
    }

    /// Completes when the broker has had its time for the last calls.
    pub(super) async fn last_calls(&self) {
        self.patience(LAST_CALLS).await;
    }

    /// Completes after `limit`, or a second after a second signal.
    pub(super) async fn patience(&self, limit: Duration) {
        tokio::select! {
            () = tokio::time::sleep(limit) => {}
            () = async {
                SignalRequests::of_process().hurry.cancelled().await;
                tokio::time::sleep(IN_HASTE).await;
            } => {}
        }
    }
}

/// Waits for `something` up to `limit`. Returns whether it completed.
pub(super) async fn within(limit: Duration, something: impl Future<Output = ()>) -> bool {
    tokio::time::timeout(limit, something).await.is_ok()
}
