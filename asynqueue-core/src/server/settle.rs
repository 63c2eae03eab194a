//! Recording outcomes, in batches that form while the one before is under way.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Counters, Shared, is_closed, retrying::Retrying};
use crate::{
    broker::{Settled, Settlement},
    metrics,
};

/// The most outcomes to record in one call.
const MAX_BATCH: usize = 1_000;

/// Outcomes that are to be recorded.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    settlements: Mutex<Vec<Settlement>>,
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

    fn record(&self, n: usize) {
        self.unrecorded.fetch_sub(n, SeqCst);
        self.recorded.notify_one();
    }

    pub(super) fn take(&self) -> Vec<Settlement> {
        let mut settlements = self.settlements.lock();
        let capacity = settlements.len();
        std::mem::replace(&mut settlements, Vec::with_capacity(capacity))
    }
}

impl Shared {
    /// Records outcomes until the server has stopped and nothing is left, or the broker is closed.
    pub(super) async fn settle_outcomes(self: Arc<Self>) {
        loop {
            let batch = self.outbox.take();
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

    /// Records one batch, however long that takes; returns whether to go on.
    async fn settle(&self, batch: &[Settlement]) -> bool {
        let mut retrying = Retrying::new("settle");
        loop {
            match self.broker.settle(batch).await {
                Ok(settled) => {
                    retrying.worked();
                    self.note_stale(batch, &settled);
                    self.note_archived(batch, &settled);
                    let outcomes = batch.iter().zip(settled);
                    metrics::settled(outcomes, |event| self.registry.knows(event));
                    return true;
                }
                Err(error) if is_closed(&error) => {
                    // Their leases end, and they run again elsewhere.
                    tracing::error!(%error, tasks = batch.len(), "outcomes could not be recorded");
                    return false;
                }
                Err(error) => tokio::time::sleep(retrying.failed(&error)).await,
            }
        }
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
