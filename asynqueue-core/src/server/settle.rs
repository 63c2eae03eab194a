//! Recording outcomes, in batches that form while the one before is under way.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Counters, Shared, is_closed, outcome::guarded, retrying::Retrying};
use crate::{
    broker::{BrokerError, Lease, Outcome, Settled, Settlement},
    metrics,
    task::{Envelope, Failure, FailureKind},
};

/// The most outcomes to record in one call.
const MAX_BATCH: usize = 1_000;

/// Outcomes that are to be recorded.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    settlements: Mutex<Vec<Settlement>>,
    /// Those of the call under way.
    under_way: Mutex<Arc<Vec<Settlement>>>,
    filled: Notify,
    /// How many are here, those of the call under way among them.
    unrecorded: AtomicUsize,
    recorded: Notify,
}

impl Outbox {
    pub(super) fn push(&self, settlement: Settlement) {
        self.unrecorded.fetch_add(1, SeqCst);
        let was_empty = {
            let mut settlements = self.settlements.lock();
            settlements.push(settlement);
            settlements.len() == 1
        };
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// How many outcomes are not recorded yet.
    pub(super) fn unrecorded(&self) -> usize {
        self.unrecorded.load(SeqCst)
    }

    /// Waits until at most `max` outcomes are not recorded.
    pub(super) async fn unrecorded_at_most(&self, max: usize) {
        while self.unrecorded() > max {
            self.recorded.notified().await;
        }
    }

    /// The leases of what is not recorded yet.
    pub(super) fn leases(&self) -> Vec<Lease> {
        let lease = |settlement: &Settlement| Lease {
            task: settlement.envelope.task_ref(),
            token: settlement.token,
        };
        let mut leases: Vec<_> = self.settlements.lock().iter().map(lease).collect();
        leases.extend(self.under_way.lock().iter().map(lease));
        leases
    }

    fn record(&self, n: usize) {
        self.unrecorded.fetch_sub(n, SeqCst);
        self.recorded.notify_one();
    }

    pub(super) fn take(&self) -> Vec<Settlement> {
        let mut settlements = self.settlements.lock();
        let capacity = settlements.len();
        std::mem::replace(&mut settlements, Vec::with_capacity(capacity))
    }

    /// Takes what is to be recorded next. Its leases are still among those [here](Self::leases).
    fn begin(&self) -> Arc<Vec<Settlement>> {
        let mut under_way = self.under_way.lock();
        *under_way = Arc::new(self.take());
        Arc::clone(&under_way)
    }
}

impl Shared {
    /// Records outcomes until the server has stopped and nothing is left, or the broker is closed.
    pub(super) async fn settle_outcomes(self: Arc<Self>) {
        loop {
            let batch = self.outbox.begin();
            if batch.is_empty() {
                if self.stopped.is_cancelled() {
                    return;
                }
                tokio::select! {
                    () = self.outbox.filled.notified() => {}
                    () = self.stopped.cancelled() => {}
                }
                // What else is finished in this turn of the runtime comes along.
                tokio::task::yield_now().await;
            }
            for chunk in batch.chunks(MAX_BATCH) {
                let goes_on = self.settle(chunk).await;
                self.outbox.record(chunk.len());
                if !goes_on {
                    return;
                }
            }
        }
    }

    /// Records one batch, however long that takes; returns whether to continue.
    async fn settle(&self, batch: &[Settlement]) -> bool {
        // What is left of the batch, in parts: one that the broker refuses is split until the culprit is alone.
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            match self.settle_patiently(part).await {
                Ok(()) => {}
                Err(error) if is_closed(&error) => {
                    // Their leases end, and they run again elsewhere.
                    tracing::error!(%error, tasks = part.len(), "outcomes could not be recorded");
                    return false;
                }
                Err(error) if part.len() > 1 => {
                    tracing::debug!(%error, tasks = part.len(), "outcomes were refused together; recorded in halves");
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(error) => self.archive_refused(&part[0], &error).await,
            }
        }
        true
    }

    /// Records outcomes in one call, again and again while the broker is away. Fails when it refuses them or is closed.
    async fn settle_patiently(&self, part: &[Settlement]) -> Result<(), BrokerError> {
        let mut retrying = Retrying::new("settle");
        loop {
            match self.broker.settle(part).await {
                Ok(settled) => {
                    retrying.worked();
                    self.note_settled(part, settled);
                    return Ok(());
                }
                Err(error) if error.is_temporary() => {
                    tokio::time::sleep(retrying.failed(&error)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Archives a task whose outcome the broker refuses, without its result, so that it holds up no other and does not
    /// run again and again.
    async fn archive_refused(&self, refused: &Settlement, error: &BrokerError) {
        let task = refused.envelope.task_ref();
        tracing::error!(%task, event = %refused.envelope.event, %error,
            "the broker refuses the outcome of this task; it is archived without its result");
        let mut envelope = Envelope::clone(&refused.envelope);
        envelope.push_failure(Failure {
            attempt: envelope.attempts.saturating_add(1),
            started: None,
            at: self.broker.now(),
            kind: FailureKind::Error,
            message: format!("the store refused its outcome: {error}"),
            backtrace: None,
            worker: Some(self.worker.clone()),
        });
        let archived = [Settlement {
            envelope: Arc::new(envelope),
            token: refused.token,
            outcome: Outcome::Archive,
            only_if_expired: refused.only_if_expired,
        }];
        if let Err(error) = self.settle_patiently(&archived).await {
            tracing::error!(%task, %error,
                "this task cannot be archived either; it runs again when its lease has ended");
        }
    }

    fn note_settled(&self, part: &[Settlement], settled: Vec<Settled>) {
        self.note_stale(part, &settled);
        self.note_archived(part, &settled);
        let outcomes = part.iter().zip(settled);
        guarded("metrics", || {
            metrics::settled(outcomes, |event| self.registry.knows(event));
        });
    }

    fn note_stale(&self, batch: &[Settlement], settled: &[Settled]) {
        for (settlement, settled) in batch.iter().zip(settled) {
            if *settled == Settled::Stale {
                Counters::add(&self.counters.stale, 1);
                tracing::warn!(task = %settlement.envelope.task_ref(), "outcome refused: its lease had ended");
            }
        }
    }
}
