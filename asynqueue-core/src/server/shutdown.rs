//! Coming to an end without losing anything.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use super::Shared;
use crate::broker::{Leased, Outcome};

/// A leased task that has waited for a slot for longer than this goes back.
const HOARDED: Duration = Duration::from_millis(100);

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
