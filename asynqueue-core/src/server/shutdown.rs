//! Coming to an end without losing anything.

use std::{future::Future, sync::Arc, time::Duration};

use super::{Shared, inbox::Job};
use crate::{broker::Outcome, process::Context, trace};

impl Shared {
    /// Gives back what has not started.
    pub(super) fn give_back_waiting(&self) {
        // Each goes to the front of its queue: the last one first keeps their order.
        for job in self.inbox.close().into_iter().rev() {
            self.give_back(job);
        }
    }

    /// Gives back a task that was leased and has not started.
    pub(super) fn give_back(&self, job: Job) {
        self.outbox.push(job.leased.settle(Outcome::Release));
        self.inbox.finished(job.queue);
    }

    /// Gives back a task whose attempt has stopped.
    pub(super) fn give_back_begun(&self, context: &Context, job: Job) {
        let mut settlement = job.leased.settle(Outcome::Release);
        trace::carry_on(&context.take_span(), &mut settlement);
        self.outbox.push(settlement);
        self.inbox.finished(job.queue);
    }

    /// Waits for what runs, and gives it back when it takes too long.
    pub(super) async fn wind_down(self: &Arc<Self>) {
        let idle = || self.inbox.load_at_most(0);
        if !within(self.settings.shutdown_timeout, idle()).await {
            tracing::warn!(
                running = self.slots.busy(),
                "shutdown timeout is up; cancelling what runs"
            );
            self.slots.each(|running| running.context.cut_off());
            within(self.settings.cancel_grace, idle()).await;
            self.give_back_all();
        }
        self.stopped.cancel();
    }
}

/// Waits for something up to `limit`; returns whether it came.
pub(super) async fn within(limit: Duration, something: impl Future<Output = ()>) -> bool {
    tokio::time::timeout(limit, something).await.is_ok()
}

/// Completes at the first SIGINT or SIGTERM, or Ctrl-C where there are no signals; for
/// [`ServerBuilder::run`](crate::ServerBuilder::run). Signals count from the call on, before the
/// future is first polled.
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn shutdown_signal() -> impl Future<Output = ()> + Send + 'static {
    #[cfg(unix)]
    let signals = {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::interrupt()).and_then(|i| Ok((i, signal(SignalKind::terminate())?)))
    };
    async move {
        #[cfg(unix)]
        if let Ok((mut interrupt, mut terminate)) = signals {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
        if tokio::signal::ctrl_c().await.is_err() {
            // No signal can be received here: to stop at once would be worse than not at all.
            std::future::pending().await
        }
    }
}
