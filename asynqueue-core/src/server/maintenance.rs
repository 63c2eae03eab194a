//! Upkeep of the queues: each part a loop that fails and recovers by itself.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};

use super::{Shared, archive::ArchiveLog, outcome::guarded, rounds::Chore};
use crate::{
    broker::{BrokerError, Each, Forwarded, Trimmed},
    task::Name,
};

/// The most tasks of a queue to move or trim in one call.
const MAX_BATCH: usize = 1_000;

/// How soon after the start to delete what is old.
const FIRST_TRIM: Duration = Duration::from_secs(1);

/// How often to delete what is old.
const TRIM_INTERVAL: Duration = Duration::from_secs(10);

/// Makes tasks pending when they are due.
struct ForwardDue(Arc<Shared>);

impl Chore for ForwardDue {
    type Answer = Forwarded;

    const DOING: &'static str = "forward due tasks";

    fn ask(
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

/// Deletes what is kept no longer.
struct TrimOld {
    shared: Arc<Shared>,
    archives: ArchiveLog,
}

impl Chore for TrimOld {
    type Answer = Trimmed;

    const DOING: &'static str = "trim old tasks";

    fn ask(
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
    /// Makes tasks pending when they are due, and sooner where a task comes in that is due before others.
    pub(super) async fn forward_due(self: Arc<Self>) {
        let chore = ForwardDue(Arc::clone(&self));
        self.go_round(chore, Duration::ZERO, &self.due).await;
        self.hand_over_upkeep().await;
    }

    /// Lets others look after the queues at once.
    async fn hand_over_upkeep(&self) {
        if let Err(error) = self.broker.hand_over(&self.queue_names).await {
            tracing::debug!(%error, "the upkeep of the queues was not handed over; others take it over soon");
        }
    }

    /// Deletes what is kept no longer.
    pub(super) async fn trim_old(self: Arc<Self>) {
        let chore = TrimOld {
            archives: ArchiveLog::new(self.settings.keep, &self.queue_names),
            shared: Arc::clone(&self),
        };
        self.go_round_alone(chore, FIRST_TRIM).await;
    }

    /// Reports to the user's health check whether the broker answers.
    pub(super) async fn check_health(self: Arc<Self>) {
        let Some((interval, check)) = &self.settings.health_check else {
            return;
        };
        loop {
            let answer = self.broker.ping().await;
            guarded("health_check", || check(answer));
            if !self.runs_after(*interval).await {
                return;
            }
        }
    }

    /// Waits; returns whether the server still runs.
    pub(super) async fn runs_after(&self, wait: Duration) -> bool {
        self.runs_until(tokio::time::sleep(wait)).await
    }

    /// Waits for something; returns whether the server still runs.
    pub(super) async fn runs_until<T>(&self, something: impl Future<Output = T>) -> bool {
        tokio::select! {
            () = self.stopped.cancelled() => false,
            _ = something => true,
        }
    }
}
