//! Extending the leases of tasks that are here, and passing on progress.

use std::{collections::HashMap, sync::Arc, time::Instant};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{Shared, is_closed, retrying::Retrying};
use crate::{
    broker::{BrokerError, Extended, Lease},
    metrics,
    task::{Envelope, TaskRef},
};

/// The most leases to extend, or progress to report, in one call.
const MAX_BATCH: usize = 1_000;

/// How often progress is passed on.
const REPORT_INTERVAL: std::time::Duration = std::time::Duration::from_millis(200);

/// Leases of tasks that are said to be cancelled. A signal is no proof: whether they are is in the answer to extending them.
#[derive(Debug, Default)]
pub(super) struct Asked {
    leases: Mutex<Vec<Lease>>,
    notify: Notify,
}

impl Shared {
    /// Extends the leases of all that is here, each third of a lease; sooner when the signal of a cancellation may have been lost,
    /// since the answer shows it; and of single tasks that are said to be cancelled at once.
    pub(super) async fn extend_leases(self: Arc<Self>) {
        let mut retrying = Retrying::new("extend leases");
        let (mut since, mut wait) = (Instant::now(), self.settings.lease / 3);
        let mut last = since;
        loop {
            let mut is_asked = false;
            let due = async {
                tokio::select! {
                    () = sleep(wait.saturating_sub(since.elapsed())) => {}
                    () = self.unheard.notified() => {}
                    () = self.asked.notify.notified() => is_asked = true,
                }
            };
            if !self.runs_until(due).await {
                return;
            }
            if is_asked {
                match self.extend_asked().await {
                    Ok(()) => continue,
                    Err(error) if is_closed(&error) => return,
                    // With all others, whose answers tell the same.
                    Err(error) => tracing::debug!(%error, "leases could not be extended"),
                }
            }
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
            since = Instant::now();
        }
    }

    async fn extend_all(&self) -> Result<(), BrokerError> {
        let leases: Vec<_> = self.leases().into_iter().collect();
        self.extend(&leases).await
    }

    async fn extend_asked(&self) -> Result<(), BrokerError> {
        let leases = std::mem::take(&mut *self.asked.leases.lock());
        self.extend(&leases).await
    }

    async fn extend(&self, leases: &[Lease]) -> Result<(), BrokerError> {
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

    /// Asks the broker about a task that is said to be cancelled, if it is here.
    pub(super) fn ask_if_cancelled(&self, task: &TaskRef) {
        let mut leases = self.inbox.leases_of(task);
        self.slots.each(|running| {
            if running.context.id() == &task.id && running.context.queue() == &task.queue {
                leases.push(running.lease());
            }
        });
        if !leases.is_empty() {
            self.asked.leases.lock().extend(leases);
            self.asked.notify.notify_one();
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
