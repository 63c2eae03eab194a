//! Shutting down without losing anything, and resting when quiet.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Shared, signals::Asked};
use crate::{
    broker::{Leased, Outcome},
    process::Context,
    trace,
};

/// A leased task that has waited for a slot for longer than this goes back.
const HOARDED: Duration = Duration::from_millis(100);

/// How long the broker may take to answer the last lease, and to record the last outcomes.
const LAST_CALLS: Duration = Duration::from_secs(10);

/// The same after a second signal.
const LAST_CALLS_IN_HASTE: Duration = Duration::from_secs(1);

impl Shared {
    /// Gives back what has not started.
    pub(super) fn give_back_waiting(&self) {
        // Each goes to the front of its queue: the last one first keeps their order.
        for job in self.inbox.close().into_iter().rev() {
            self.give_back(job.leased, job.queue);
        }
    }

    /// Gives back what this server holds and cannot start soon, so that another can run it.
    pub(super) fn give_back_hoarded(&self) {
        let hoarded = self.inbox.take_hoarded(HOARDED, Instant::now());
        for job in hoarded.into_iter().rev() {
            self.give_back(job.leased, job.queue);
        }
    }

    /// Gives back a task that was leased and has not started.
    pub(super) fn give_back(&self, leased: Leased, queue: usize) {
        self.outbox.push(leased.settle(Outcome::Release));
        self.inbox.finished(queue);
    }

    /// Gives back a task whose attempt has stopped.
    pub(super) fn give_back_begun(&self, context: &Context, leased: Leased, queue: usize) {
        let mut settlement = leased.settle(Outcome::Release);
        trace::carry_on(&context.take_span(), &mut settlement);
        self.outbox.push(settlement);
        self.inbox.finished(queue);
    }

    /// Waits for what runs, and gives it back when it takes too long or a second signal comes.
    pub(super) async fn wind_down(self: &Arc<Self>) {
        let hurry = &Asked::of_process().hurry;
        let idle = || self.inbox.load_at_most(0);
        let finished = tokio::select! {
            finished = within(self.settings.shutdown_timeout, idle()) => finished,
            () = hurry.cancelled() => false,
        };
        if !finished {
            tracing::warn!(
                running = self.slots.busy(),
                "shutdown timeout is up; cancelling what runs"
            );
            self.slots.each(|running| running.context.cut_off());
            tokio::select! {
                _ = within(self.settings.cancel_grace, idle()) => {}
                () = hurry.cancelled() => {}
            }
            self.give_back_all();
        }
        self.stopped.cancel();
    }

    /// How long the broker may take to answer the last lease, and to record the last outcomes.
    pub(super) async fn last_calls(&self) {
        tokio::select! {
            () = tokio::time::sleep(LAST_CALLS) => {}
            () = async {
                Asked::of_process().hurry.cancelled().await;
                tokio::time::sleep(LAST_CALLS_IN_HASTE).await;
            } => {}
        }
    }
}

/// Waits for something up to `limit`; returns whether it came.
pub(super) async fn within(limit: Duration, something: impl Future<Output = ()>) -> bool {
    tokio::time::timeout(limit, something).await.is_ok()
}
