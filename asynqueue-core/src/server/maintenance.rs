//! Upkeep of the queues: each part a loop that fails and recovers by itself.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    Counters, Shared, is_closed,
    outcome::{after_failure, guarded},
    retrying::Retrying,
};
use crate::{
    broker::{BrokerError, Leased, Settled, Settlement},
    metrics,
    process::TaskErrorKind,
    task::{Failure, FailureKind},
};

/// The most tasks to move, reclaim or trim in one call.
const MAX_BATCH: usize = 1_000;

/// How often to look for lost leases; also a sixth of a lease, for short ones.
const RECLAIM_INTERVAL: Duration = Duration::from_secs(2);

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
                return;
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

    /// Takes tasks back whose worker is lost.
    pub(super) async fn reclaim_lost(self: Arc<Self>) {
        let interval = RECLAIM_INTERVAL.min(self.settings.lease / 6);
        let mut retrying = Retrying::new("reclaim lost tasks");
        let mut wait = interval;
        while self.runs_after(wait).await {
            wait = match self.reclaim().await {
                Ok(reclaimed) => {
                    retrying.worked();
                    if reclaimed == MAX_BATCH {
                        Duration::ZERO
                    } else {
                        interval
                    }
                }
                Err(error) if is_closed(&error) => return,
                Err(error) => retrying.failed(&error),
            };
        }
    }

    async fn reclaim(&self) -> Result<usize, BrokerError> {
        let lost = self.broker.expired(&self.queue_names, MAX_BATCH).await?;
        if lost.is_empty() {
            return Ok(0);
        }
        let settlements: Vec<_> = lost.iter().map(lease_expired).collect();
        let settled = self.broker.settle(&settlements).await?;
        for (settlement, settled) in settlements.iter().zip(&settled) {
            if *settled != Settled::Stale {
                Counters::add(&self.counters.reclaimed, 1);
                let task = &settlement.envelope;
                metrics::reclaimed(task, self.registry.knows(&task.event));
                self.log_attempt(settlement);
            }
        }
        self.note_archived(&settlements, &settled);
        let outcomes = settlements.iter().zip(settled);
        // One that was refused was not lost: its worker lives, or another server was faster.
        let ended = outcomes.filter(|(_, settled)| *settled != Settled::Stale);
        metrics::settled(ended, |event| self.registry.knows(event));
        Ok(lost.len())
    }

    /// Deletes what is kept no longer.
    pub(super) async fn trim_old(self: Arc<Self>) {
        let mut retrying = Retrying::new("trim old tasks");
        let mut wait = TRIM_INTERVAL;
        while self.runs_after(wait).await {
            wait = match self
                .broker
                .trim(&self.queue_names, self.settings.keep, MAX_BATCH)
                .await
            {
                Ok(trimmed) => {
                    retrying.worked();
                    if trimmed == MAX_BATCH {
                        Duration::ZERO
                    } else {
                        TRIM_INTERVAL
                    }
                }
                Err(error) if is_closed(&error) => return,
                Err(error) => retrying.failed(&error),
            };
        }
    }

    /// Tells the user's health check whether the broker answers.
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

    /// Makes sure that those who subscribe are known, though the broker may be away at first. Once only: someone may
    /// remove them while the server runs.
    pub(super) async fn subscribe_once(self: Arc<Self>) {
        if self.subscribed.load(Ordering::SeqCst) {
            return;
        }
        let mut retrying = Retrying::new("subscribe");
        while let Err(error) = self.subscribe().await {
            if is_closed(&error) || !self.runs_after(retrying.failed(&error)).await {
                return;
            }
        }
        retrying.worked();
    }

    /// Tells the broker who subscribes.
    pub(super) async fn subscribe(&self) -> Result<(), BrokerError> {
        if self.subscribers.is_empty() {
            return Ok(());
        }
        self.broker.subscribe(self.subscribers.clone()).await?;
        self.subscribed.store(true, Ordering::SeqCst);
        Ok(())
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

/// The outcome of an attempt whose worker was not heard of any more.
fn lease_expired(lost: &Leased) -> Settlement {
    let failure = Failure {
        attempt: lost.envelope.attempts.saturating_add(1),
        started: None,
        at: lost.now,
        kind: FailureKind::LeaseExpired,
        message: "lease expired: its worker was not heard of any more".into(),
        backtrace: None,
        worker: None,
    };
    // At once: the lease's length was wait enough.
    let kind = TaskErrorKind::RetryAfter(Duration::ZERO);
    let settlement = after_failure(&lost.envelope, lost.token, kind, failure, true);
    Settlement {
        only_if_expired: true,
        ..settlement
    }
}
