//! Coming to an end without losing anything.

use std::{future::Future, sync::Arc, time::Duration};

use super::Shared;
use crate::broker::Outcome;

impl Shared {
    /// Gives back what has not started, waits for what runs, gives that back too when it takes too long.
    pub(super) async fn wind_down(self: &Arc<Self>) {
        for job in self.inbox.close() {
            self.outbox.push(job.leased.settle(Outcome::Release));
            self.inbox.finished(job.queue);
        }
        let idle = || self.inbox.load_at_most(0);
        if !within(self.settings.shutdown_timeout, idle()).await {
            tracing::warn!(
                running = self.slots.busy(),
                "shutdown timeout is up; cancelling what runs"
            );
            self.slots
                .each(|running| running.context.cancellation_token().cancel());
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
/// [`ServerBuilder::run`](crate::ServerBuilder::run).
pub async fn shutdown_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        // No signal can be received here: to stop at once would be worse than not at all.
        std::future::pending().await
    }
}
