//! Upkeep of the queues: each part a loop that fails and recovers by itself.

use std::{future::Future, sync::Arc, time::Duration};

use super::{Shared, archive::ArchiveLog, is_closed, outcome::guarded, retrying::Retrying};
use crate::broker::Trimmed;

/// The most tasks to move or trim in one call.
const MAX_BATCH: usize = 1_000;

/// How soon after the start to delete what is old.
const FIRST_TRIM: Duration = Duration::from_secs(1);

/// How often to delete what is old.
const TRIM_INTERVAL: Duration = Duration::from_secs(10);

impl Shared {
    /// Makes tasks pending when they are due.
    pub(super) async fn forward_due(self: Arc<Self>) {
        let mut retrying = Retrying::new("forward due tasks");
        let mut wait = Duration::ZERO;
        loop {
            // Woken early where a task comes in that is due before `wait` is over.
            let woken = async {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.due.notified() => {}
                }
            };
            if !self.runs_until(woken).await {
                return self.hand_over_upkeep().await;
            }
            wait = match self.broker.forward(&self.queue_names, MAX_BATCH).await {
                Ok(forwarded) => {
                    retrying.worked();
                    let until_due = forwarded.next_due.map(|due| due.since(self.broker.now()));
                    until_due
                        .unwrap_or(Duration::MAX)
                        .min(self.settings.poll_interval)
                }
                Err(error) if is_closed(&error) => return,
                Err(error) => retrying.failed(&error),
            };
        }
    }

    /// Lets others look after the queues at once.
    async fn hand_over_upkeep(&self) {
        if let Err(error) = self.broker.hand_over(&self.queue_names).await {
            tracing::debug!(%error, "the upkeep of the queues was not handed over; others take it over soon");
        }
    }

    /// Deletes what is kept no longer.
    pub(super) async fn trim_old(self: Arc<Self>) {
        let (queues, keep) = (&self.queue_names, self.settings.keep);
        let mut retrying = Retrying::new("trim old tasks");
        let mut archives = ArchiveLog::new(keep, queues);
        let mut wait = FIRST_TRIM;
        while self.runs_after(wait).await {
            wait = match self.broker.trim(queues, keep, MAX_BATCH).await {
                Ok(trimmed) => {
                    retrying.worked();
                    queues
                        .iter()
                        .zip(&trimmed)
                        .for_each(|(queue, trimmed)| archives.note(queue, trimmed));
                    if trimmed.iter().map(Trimmed::deleted).sum::<usize>() >= MAX_BATCH {
                        Duration::ZERO
                    } else {
                        archives.log();
                        TRIM_INTERVAL
                    }
                }
                Err(error) if is_closed(&error) => return,
                Err(error) => retrying.failed(&error),
            };
        }
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
