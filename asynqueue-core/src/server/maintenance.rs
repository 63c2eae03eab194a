//! Upkeep of the queues: independent loops that retry on failure.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};

use super::{Shared, archive::ArchiveLog, outcome::guarded, rounds::Chore};
use crate::{
    broker::{BrokerError, Each, Forwarded, Trimmed},
    task::Name,
};

/// The maximum number of tasks of a queue to move or trim in one call.
const MAX_BATCH: usize = 1_000;

/// How soon after the start old tasks are first deleted.
const FIRST_TRIM: Duration = Duration::from_secs(1);

/// How often old tasks are deleted.
const TRIM_INTERVAL: Duration = Duration::from_secs(10);

/// Makes due tasks pending.
struct ForwardDue(Arc<Shared>);

impl Chore for ForwardDue {
    type Output = Forwarded;

    const DOING: &'static str = "forward due tasks";

    fn call(
        &mut self,
        queues: Vec<Name>,
        _: bool,
    ) -> BoxFuture<'static, Result<Each<Forwarded>, BrokerError>> {
        let broker = Arc::clone(&self.0.broker);
        async move { broker.forward(&queues, MAX_BATCH).await }.boxed()
    }

    fn act(&mut self, _: &Name, forwarded: Forwarded) -> Duration {
        let shared = &self.0;
        let until_due = forwarded.next_due.map(|due| due.since(shared.broker.now()));
        let longest = shared.settings.poll_interval;
        until_due.unwrap_or(longest).min(longest)
    }
}

/// Deletes tasks past their retention.
struct TrimOld {
    shared: Arc<Shared>,
    archives: ArchiveLog,
}

impl Chore for TrimOld {
    type Output = Trimmed;

    const DOING: &'static str = "trim old tasks";

    fn call(
        &mut self,
        queues: Vec<Name>,
        _: bool,
    ) -> BoxFuture<'static, Result<Each<Trimmed>, BrokerError>> {
        let (broker, keep) = (Arc::clone(&self.shared.broker), self.shared.settings.keep);
        async move { broker.trim(&queues, keep, MAX_BATCH).await }.boxed()
    }

    fn act(&mut self, queue: &Name, trimmed: Trimmed) -> Duration {
        self.archives.note(queue, &trimmed);
        if trimmed.deleted() >= MAX_BATCH {
            return Duration::ZERO;
        }
        self.archives.log_of(queue);
        TRIM_INTERVAL
    }
}

impl Shared {
    /// Makes tasks pending when they are due. It runs earlier when a task comes in that is due before all others.
    pub(super) async fn forward_due(self: Arc<Self>) {
        let chore = ForwardDue(Arc::clone(&self));
        self.run_chore(chore, Duration::ZERO, &self.due).await;
        self.hand_over_upkeep().await;
    }

    /// Lets other servers take over the upkeep immediately.
    async fn hand_over_upkeep(&self) {
        if let Err(error) = self.broker.hand_over(&self.queue_names).await {
            tracing::debug!(%error, "could not hand over the upkeep of the queues; other servers take over soon");
        }
    }

    /// Deletes tasks past their retention, and trims archives.
    pub(super) async fn trim_old(self: Arc<Self>) {
        let chore = TrimOld {
            archives: ArchiveLog::new(self.settings.keep, &self.queue_names),
            shared: Arc::clone(&self),
        };
        self.run_chore_by_timer(chore, FIRST_TRIM).await;
    }

    /// Calls the health check of the application with the broker's response.
    pub(super) async fn check_health(self: Arc<Self>) {
        let Some((interval, check)) = &self.settings.health_check else {
            return;
        };
        loop {
            let result = self.broker.ping().await;
            guarded("health_check", || check(result));
            if !self.runs_after(*interval).await {
                return;
            }
        }
    }

    /// Waits for a time. Returns whether the server still runs.
    pub(super) async fn runs_after(&self, wait: Duration) -> bool {
        self.runs_until(tokio::time::sleep(wait)).await
    }

    /// Waits for a future. Returns whether the server still runs.
    pub(super) async fn runs_until<T>(&self, something: impl Future<Output = T>) -> bool {
        tokio::select! {
            () = self.stopped.cancelled() => false,
            _ = something => true,
        }
    }
}
