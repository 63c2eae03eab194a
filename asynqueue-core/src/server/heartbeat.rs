//! Extending the leases of tasks that are here, and passing on progress.

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

/// The most leases to extend, or progress to report, in one call.
const MAX_BATCH: usize = 1_000;

/// How often progress is passed on.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// Leases of tasks that are said to be cancelled. A signal can be false, so the answer to extending them decides.
#[derive(Debug, Default)]
pub(super) struct Asked {
    leases: Mutex<Vec<Lease>>,
    notify: Notify,
}

/// Extends the leases of all that is here.
struct ExtendLeases {
    shared: Arc<Shared>,
    /// What is to be extended in this round.
    leases: HashMap<Name, Vec<Lease>>,
    /// When the leases of a queue were last extended.
    last: HashMap<Name, Instant>,
}

impl Chore for ExtendLeases {
    /// Whether there were any.
    type Answer = bool;

    const DOING: &'static str = "extend leases";

    fn longest_wait(&self) -> Duration {
        self.shared.settings.lease / 3
    }

    fn begin(&mut self) {
        self.leases.clear();
        for lease in self.shared.leases() {
            let of_queue = self.leases.entry(lease.task.queue.clone()).or_default();
            of_queue.push(lease);
        }
    }

    fn ask(
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
                "leases were extended too late: other servers may have reclaimed tasks of this one; is the process or the machine \
                 short of CPU, or was it paused?");
        }
        lease / 3
    }
}

impl Shared {
    /// Extends the leases of all that is here, each third of a lease; sooner when the signal of a cancellation may have been lost,
    /// since the answer shows it; and of single tasks that are said to be cancelled at once.
    pub(super) async fn extend_leases(self: Arc<Self>) {
        let chore = ExtendLeases {
            shared: Arc::clone(&self),
            leases: HashMap::new(),
            last: HashMap::new(),
        };
        let first = self.settings.lease / 3;
        tokio::join!(
            self.go_round(chore, first, &self.unheard),
            self.extend_asked()
        );
    }

    async fn extend_asked(&self) {
        while self.runs_until(self.asked.notify.notified()).await {
            let leases = std::mem::take(&mut *self.asked.leases.lock());
            if let Err(error) = all_of(self.extend_all(vec![leases]).await) {
                tracing::debug!(%error, "leases of tasks that are said to be cancelled were not extended");
                // With all others, where a queue that fails waits by itself.
                self.unheard.notify_one();
            }
        }
    }

    /// Extends the leases of some queues, and answers for each queue whether it had any.
    async fn extend_all(&self, leases: Vec<Vec<Lease>>) -> Result<Each<bool>, BrokerError> {
        let had_any = |leases: &Vec<Lease>| Ok(!leases.is_empty());
        let mut answers: Each<bool> = leases.iter().map(had_any).collect();
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
                    Err(error) => answers[*place] = Err(error),
                }
            }
            self.act_on_extended(&known, held_until);
        }
        Ok(answers)
    }

    /// Stops work that is lost or to be cancelled.
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

    /// Passes on the newest progress of what runs. That of a queue which does not answer holds up no other's where queues are
    /// kept apart.
    pub(super) async fn report_progress(self: Arc<Self>) {
        let mut ticks = interval(REPORT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let apart = self.broker.capabilities().is_partitioned;
        let (mut calls, mut busy) = (FuturesUnordered::new(), HashSet::new());
        loop {
            tokio::select! {
                () = self.stopped.cancelled() => return,
                Some(of) = calls.next() => {
                    busy.remove(&of);
                }
                _ = ticks.tick() => {
                    for (of, news) in self.news(apart) {
                        // Newer progress follows; one that is lost is not worth a retry.
                        if busy.insert(of.clone()) {
                            calls.push(self.report_all(of, news));
                        }
                    }
                }
            }
        }
    }

    /// The newest progress of what runs; by queue where they are kept `apart`.
    fn news(&self, apart: bool) -> HashMap<Option<Name>, Vec<(Lease, Progress)>> {
        let mut news = HashMap::<_, Vec<_>>::new();
        self.slots.each(|running| {
            if let Some(progress) = running.context.take_progress() {
                let lease = running.lease();
                let of = apart.then(|| lease.task.queue.clone());
                news.entry(of).or_default().push((lease, progress));
            }
        });
        news
    }

    async fn report_all(&self, of: Option<Name>, mut news: Vec<(Lease, Progress)>) -> Option<Name> {
        while !news.is_empty() {
            let rest = news.split_off(news.len().min(MAX_BATCH));
            if let Err(error) = self.broker.report(news).await {
                tracing::debug!(%error, "progress could not be reported");
                break;
            }
            news = rest;
        }
        of
    }
}
