//! Extending the leases of tasks that are here, and passing on progress.

use std::{collections::HashMap, sync::Arc, time::Instant};

use tokio::time::{MissedTickBehavior, interval};

use super::{Shared, is_closed, retrying::Retrying};
use crate::{
    broker::{BrokerError, Extended, Lease, Leased},
    metrics,
    task::{Envelope, TaskRef},
};

/// The most leases to extend, or progress to report, in one call.
const MAX_BATCH: usize = 1_000;

/// How often progress is passed on.
const REPORT_INTERVAL: std::time::Duration = std::time::Duration::from_millis(200);

impl Shared {
    /// Extends the leases of all that is here, each third of a lease; sooner when the signal of a cancellation may have been lost,
    /// since the answer shows it.
    pub(super) async fn extend_leases(self: Arc<Self>) {
        let mut retrying = Retrying::new("extend leases");
        let mut wait = self.settings.lease / 3;
        let due = async |wait| {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.unheard.notified() => {}
            }
        };
        let mut last = Instant::now();
        while self.runs_until(due(wait)).await {
            wait = match self.extend_all().await {
                Ok(()) => {
                    retrying.worked();
                    let since = std::mem::replace(&mut last, Instant::now()).elapsed();
                    if since > self.settings.lease {
                        tracing::warn!(?since, lease = ?self.settings.lease,
                            "leases were extended too late: other servers may have reclaimed tasks of this one; is the process or the machine \
                             short of CPU, or was it paused?");
                    }
                    self.settings.lease / 3
                }
                Err(error) if is_closed(&error) => return,
                Err(error) => retrying.failed(&error).min(self.settings.lease / 3),
            };
        }
    }

    async fn extend_all(&self) -> Result<(), BrokerError> {
        let leases: Vec<_> = self.leases().into_iter().collect();
        for chunk in leases.chunks(MAX_BATCH) {
            let extended = self.broker.extend(chunk, self.settings.lease).await?;
            self.act_on_extended(chunk, &extended);
        }
        Ok(())
    }

    /// Stops work that is lost or to be cancelled.
    fn act_on_extended(&self, leases: &[Lease], extended: &[Extended]) {
        let stop: HashMap<&Lease, Extended> = leases
            .iter()
            .zip(extended.iter().copied())
            .filter(|(_, extended)| *extended != Extended::Yes)
            .collect();
        if stop.is_empty() {
            return;
        }
        // What has just been settled is among the lost too; only what still waits or runs is stopped.
        for (lease, extended) in &stop {
            if let Some(job) = self.inbox.remove(|leased| leased.lease() == **lease) {
                if *extended == Extended::Lost {
                    self.note_lost(&job.leased.envelope);
                }
                // Refused if the lease is lost, archived if the task is cancelled.
                self.give_back(job.leased, job.queue);
            }
        }
        self.slots.each(|running| {
            let Some(extended) = stop.get(&running.lease()) else {
                return;
            };
            if *extended == Extended::Lost && running.cancelled.is_none() {
                self.note_lost(running.context.envelope());
            }
            running.cancel();
        });
    }

    fn note_lost(&self, task: &Envelope) {
        tracing::warn!(task = %task.task_ref(), "lease lost; the task is stopped here");
        metrics::lease_lost(task, self.registry.knows(&task.event));
    }

    /// Asks a task to stop if it runs here. One that has not started is given back, for the broker to archive.
    pub(super) fn cancel(&self, task: &TaskRef) {
        let is_it =
            |leased: &Leased| leased.envelope.id == task.id && leased.envelope.queue == task.queue;
        match self.inbox.remove(is_it) {
            Some(job) => self.give_back(job.leased, job.queue),
            None => self.slots.cancel(task),
        }
    }

    /// Passes on the newest progress of what runs.
    pub(super) async fn report_progress(self: Arc<Self>) {
        let mut ticks = interval(REPORT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.runs_until(ticks.tick()).await {
            let mut news = Vec::new();
            self.slots.each(|running| {
                news.extend(
                    running
                        .context
                        .take_progress()
                        .map(|progress| (running.lease(), progress)),
                );
            });
            while !news.is_empty() {
                let rest = news.split_off(news.len().min(MAX_BATCH));
                // Newer progress follows; one that is lost is not worth a retry.
                if let Err(error) = self.broker.report(news).await {
                    tracing::debug!(%error, "progress could not be reported");
                    break;
                }
                news = rest;
            }
        }
    }
}
