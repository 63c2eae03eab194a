//! Extending the leases of the tasks held here, and reporting progress.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{Shared, inbox::Job, rounds::Chore};
use crate::{
    broker::{BrokerError, Each, Extended, Lease, all_of},
    metrics,
    process::Progress,
    sync::Mutex,
    task::{Envelope, Name, TaskRef},
};

/// The maximum number of leases to extend, or of progress to report, in one call.
const MAX_BATCH: usize = 1_000;

/// How often progress is reported.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// Leases of tasks reported as cancelled. A signal can be wrong, so the broker's response to extending them decides.
#[derive(Debug, Default)]
pub(super) struct LeaseChecks {
    leases: Mutex<Vec<Lease>>,
    notify: Notify,
}

/// Extends all leases held here.
struct ExtendLeases {
    shared: Arc<Shared>,
    /// The leases still to be extended in this round.
    leases: HashMap<Name, Vec<Lease>>,
    /// When the leases of a queue were last extended.
    last: HashMap<Name, Instant>,
}

impl Chore for ExtendLeases {
    /// Whether there were any.
    type Output = bool;

    const DOING: &'static str = "extend leases";

    fn longest_wait(&self) -> Duration {
        self.shared.settings.lease / 3
    }

    fn start_round(&mut self) {
        self.leases.clear();
        for lease in self.shared.leases() {
            let of_queue = self.leases.entry(lease.task.queue.clone()).or_default();
            of_queue.push(lease);
        }
    }

    fn call(
        &mut self,
        queues: Vec<Name>,
        _: bool,
    ) -> BoxFuture<'static, Result<Each<bool>, BrokerError>> {
        let leases = |queue| self.leases.remove(queue).unwrap_or_default();
        let leases: Vec<_> = queues.iter().map(leases).collect();
        let shared = Arc::clone(&self.shared);
        async move { shared.extend_all(leases).await }.boxed()
    }

    fn act(&mut self, queue: &Name, extended: bool) -> Duration {
        let (now, lease) = (Instant::now(), self.shared.settings.lease);
        let last = self.last.insert(queue.clone(), now);
        if let Some(since) = last.map(|last| now.duration_since(last))
            && extended
            && since > lease
        {
            tracing::warn!(%queue, ?since, ?lease,
                "leases were extended too late; other servers may have reclaimed tasks of this one: check whether the process or \
                 the machine was paused or is short of CPU");
        }
        lease / 3
    }
}

impl Shared {
    /// Extends all leases held here every third of a lease; sooner if the signal of a cancellation may have been lost,
    /// because the response shows it. Leases of tasks reported as cancelled are extended immediately.
    pub(super) async fn extend_leases(self: Arc<Self>) {
        let chore = ExtendLeases {
            shared: Arc::clone(&self),
            leases: HashMap::new(),
            last: HashMap::new(),
        };
        let first = self.settings.lease / 3;
        tokio::join!(
            self.run_chore(chore, first, &self.missed_signals),
            self.check_leases()
        );
    }

    async fn check_leases(&self) {
        while self.runs_until(self.lease_checks.notify.notified()).await {
            let leases = std::mem::take(&mut *self.lease_checks.leases.lock());
            if let Err(error) = all_of(self.extend_all(vec![leases]).await) {
                tracing::debug!(%error, "could not extend the leases of cancelled tasks");
                // Extend them with all others, where a failing queue is retried separately.
                self.missed_signals.notify_one();
            }
        }
    }

    /// Extends the leases of some queues. Returns for each queue whether it had any.
    async fn extend_all(&self, leases: Vec<Vec<Lease>>) -> Result<Each<bool>, BrokerError> {
        let had_any = |leases: &Vec<Lease>| Ok(!leases.is_empty());
        let mut results: Each<bool> = leases.iter().map(had_any).collect();
        let numbered = leases.into_iter().enumerate();
        let numbered =
            numbered.flat_map(|(place, leases)| leases.into_iter().map(move |one| (place, one)));
        let (places, leases): (Vec<_>, Vec<_>) = numbered.unzip();
        for (places, leases) in places.chunks(MAX_BATCH).zip(leases.chunks(MAX_BATCH)) {
            let held_until = Job::held_until(Instant::now(), self.settings.lease);
            let extended = self.broker.extend(leases, self.settings.lease).await?;
            let mut known = Vec::with_capacity(leases.len());
            for ((lease, place), extended) in leases.iter().zip(places).zip(extended) {
                match extended {
                    Ok(extended) => known.push((lease, extended)),
                    Err(error) => results[*place] = Err(error),
                }
            }
            self.act_on_extended(&known, held_until);
        }
        Ok(results)
    }

    /// Stops tasks that are lost or cancelled.
    fn act_on_extended(&self, extended: &[(&Lease, Extended)], held_until: Instant) {
        let held = extended
            .iter()
            .filter(|(_, extended)| *extended == Extended::Yes);
        self.inbox
            .extended(held.map(|(lease, _)| *lease), held_until);
        let stop: HashMap<&Lease, Extended> = extended
            .iter()
            .copied()
            .filter(|(_, extended)| *extended != Extended::Yes)
            .collect();
        if stop.is_empty() {
            return;
        }
        // Tasks that have just been settled are among the lost ones too. Only waiting or running ones are stopped.
        for (lease, extended) in &stop {
            if let Some(job) = self.inbox.remove(|leased| leased.lease() == **lease) {
                if *extended == Extended::Lost {
                    self.note_lost(&job.leased.envelope);
                }
                // Refused if the lease is lost; archived if the task is cancelled.
                self.release(job.leased, job.queue);
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
        tracing::warn!(task = %task.task_ref(), "lease lost; stopping the task on this server");
        metrics::lease_lost(task, self.registry.knows(&task.event));
    }

    /// Checks with the broker whether a task held here is cancelled.
    pub(super) fn check_if_cancelled(&self, task: &TaskRef) {
        let mut leases = self.inbox.leases_of(task);
        self.slots.each(|running| {
            if running.context.id() == &task.id && running.context.queue() == &task.queue {
                leases.push(running.lease());
            }
        });
        if !leases.is_empty() {
            self.lease_checks.leases.lock().extend(leases);
            self.lease_checks.notify.notify_one();
        }
    }

    /// Reports the latest progress of running tasks. Where the broker is partitioned, a queue that does not respond
    /// does not delay the others.
    pub(super) async fn report_progress(self: Arc<Self>) {
        let mut ticks = interval(REPORT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let partitioned = self.broker.capabilities().is_partitioned;
        let (mut calls, mut busy) = (FuturesUnordered::new(), HashSet::new());
        loop {
            tokio::select! {
                () = self.stopped.cancelled() => return,
                Some(of) = calls.next() => {
                    busy.remove(&of);
                }
                _ = ticks.tick() => {
                    for (of, updates) in self.updates(partitioned) {
                        // Newer progress follows, so a lost report is not retried.
                        if busy.insert(of.clone()) {
                            calls.push(self.report_all(of, updates));
                        }
                    }
                }
            }
        }
    }

    /// The latest progress of running tasks; by queue if `partitioned`.
    fn updates(&self, partitioned: bool) -> HashMap<Option<Name>, Vec<(Lease, Progress)>> {
        let mut updates = HashMap::<_, Vec<_>>::new();
        self.slots.each(|running| {
            if let Some(progress) = running.context.take_progress() {
                let lease = running.lease();
                let of = partitioned.then(|| lease.task.queue.clone());
                updates.entry(of).or_default().push((lease, progress));
            }
        });
        updates
    }

    async fn report_all(
        &self,
        of: Option<Name>,
        mut updates: Vec<(Lease, Progress)>,
    ) -> Option<Name> {
        while !updates.is_empty() {
            let rest = updates.split_off(updates.len().min(MAX_BATCH));
            if let Err(error) = self.broker.report(updates).await {
                tracing::debug!(%error, "could not report progress");
                break;
            }
            updates = rest;
        }
        of
    }
}
