//! A broker that misbehaves as told.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use asynqueue_core::*;
use futures_util::{StreamExt, stream};
use tokio::sync::{Semaphore, broadcast};

/// Wraps an in-memory broker.
#[derive(Clone, Debug)]
pub(crate) struct Faulty {
    pub(super) inner: MemoryBroker,
    pub(crate) faults: Arc<Faults>,
}

#[derive(Debug)]
pub(crate) struct Faults {
    /// No signal ever arrives.
    pub(crate) deaf: AtomicBool,
    /// Signals that are not true go to all that listen from now on.
    pub(crate) rumours: broadcast::Sender<Signal>,
    /// How many tasks more than asked for a lease gives.
    pub(crate) generous: AtomicUsize,
    /// Nothing can be reached.
    pub(crate) unavailable: AtomicBool,
    /// A queue that takes no tasks.
    pub(crate) away: OnceLock<Name>,
    /// A queue that fails in every call, and how.
    pub(crate) sick: Mutex<Option<(Name, Sickness)>>,
    /// Queues are kept apart: a call for one waits for no other.
    pub(crate) partitioned: AtomicBool,
    /// Leasing panics.
    pub(crate) lease_panics: AtomicBool,
    /// Recording outcomes panics.
    pub(crate) settle_panics: AtomicBool,
    /// Outcomes cannot be recorded.
    pub(crate) settle_fails: AtomicBool,
    /// Results of more bytes than this are refused, with all that is recorded beside them.
    pub(crate) largest_result: AtomicUsize,
    /// Entries whose name begins with this cannot be fired.
    pub(crate) unfired: Mutex<Option<&'static str>>,
    /// Firing entries whose name begins with this has no answer.
    pub(crate) unanswered: Mutex<Option<&'static str>>,
    /// Payloads of more bytes than this are refused where they take the place of a group.
    pub(crate) max_aggregate: AtomicUsize,
    /// A group that cannot be reached.
    pub(crate) away_group: OnceLock<Name>,
    /// Asking for the groups of this queue has no answer.
    pub(crate) silent: OnceLock<Name>,
    /// How often it was asked for entries that are due.
    pub(crate) turns: AtomicUsize,
    /// How often a lease was asked for.
    pub(crate) leases: AtomicUsize,
    /// How often leases were extended.
    pub(crate) extensions: AtomicUsize,
    /// How many calls of `enqueue` there were.
    pub(crate) enqueues: AtomicUsize,
    /// Each call of `enqueue` takes a permit.
    pub(crate) enqueue_gate: Semaphore,
    /// Each answer to a lease takes a permit.
    pub(crate) lease_answers: Semaphore,
    /// Each subscription to signals takes a permit.
    pub(crate) subscriptions: Semaphore,
}

/// How a queue fails.
#[derive(Clone, Debug)]
pub(crate) enum Sickness {
    /// With this error.
    Error(BrokerError),
    /// A call that asks for it does not come back.
    Silence,
    /// Its outcomes alone fail, with this error.
    Outcomes(BrokerError),
}

impl Faulty {
    pub(crate) fn new(inner: &MemoryBroker) -> Self {
        let faults = Faults {
            deaf: AtomicBool::new(false),
            rumours: broadcast::channel(16).0,
            generous: AtomicUsize::new(0),
            unavailable: AtomicBool::new(false),
            away: OnceLock::new(),
            sick: Mutex::default(),
            partitioned: AtomicBool::new(false),
            lease_panics: AtomicBool::new(false),
            settle_panics: AtomicBool::new(false),
            settle_fails: AtomicBool::new(false),
            largest_result: AtomicUsize::new(usize::MAX),
            unfired: Mutex::default(),
            unanswered: Mutex::default(),
            max_aggregate: AtomicUsize::new(usize::MAX),
            away_group: OnceLock::new(),
            silent: OnceLock::new(),
            turns: AtomicUsize::new(0),
            leases: AtomicUsize::new(0),
            extensions: AtomicUsize::new(0),
            enqueues: AtomicUsize::new(0),
            enqueue_gate: Semaphore::new(Semaphore::MAX_PERMITS),
            lease_answers: Semaphore::new(Semaphore::MAX_PERMITS),
            subscriptions: Semaphore::new(Semaphore::MAX_PERMITS),
        };
        Self {
            inner: inner.clone(),
            faults: Arc::new(faults),
        }
    }

    /// Lets a queue fail.
    pub(crate) fn fall_sick(&self, queue: &'static str, how: Sickness) {
        *self.faults.sick.lock().unwrap() = Some((queue.into(), how));
    }

    /// Lets all queues answer again.
    pub(crate) fn recover(&self) {
        *self.faults.sick.lock().unwrap() = None;
    }

    /// The error that a queue fails with.
    fn error_of(&self, queue: &Name) -> Option<BrokerError> {
        match &*self.faults.sick.lock().unwrap() {
            Some((sick, Sickness::Error(error))) if sick == queue => Some(error.clone()),
            _ => None,
        }
    }

    /// Does not return while a queue does not answer that is asked for.
    async fn hear(&self, queues: impl Iterator<Item = &Name> + Send) {
        let sick = self.faults.sick.lock().unwrap().clone();
        if let Some((sick, Sickness::Silence)) = sick
            && { queues }.any(|queue| *queue == sick)
        {
            std::future::pending::<()>().await;
        }
    }

    /// Puts errors in place of the answers of a queue that fails.
    fn spoil<T>(
        &self,
        answers: Result<Each<T>, BrokerError>,
        queues: impl Iterator<Item = Name>,
    ) -> Result<Each<T>, BrokerError> {
        let spoil = |(answer, queue): (Result<T, BrokerError>, Name)| {
            self.error_of(&queue).map_or(answer, Err)
        };
        Ok(answers?.into_iter().zip(queues).map(spoil).collect())
    }

    fn reach(&self) -> Result<(), BrokerError> {
        if self.faults.unavailable.load(SeqCst) {
            Err(BrokerError::unavailable("no route"))
        } else {
            Ok(())
        }
    }
}

impl From<Faulty> for SharedBroker {
    fn from(broker: Faulty) -> Self {
        Arc::new(broker)
    }
}

/// Lets nobody pass until permits are added.
pub(crate) fn shut(gate: &Semaphore) {
    gate.forget_permits(Semaphore::MAX_PERMITS);
}

async fn pass(gate: &Semaphore) {
    gate.acquire().await.expect("never closed").forget();
}

#[async_trait]
impl Broker for Faulty {
    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    async fn enqueue(&self, tasks: Vec<NewTask>) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        self.reach()?;
        self.faults.enqueues.fetch_add(1, SeqCst);
        pass(&self.faults.enqueue_gate).await;
        let away = self.faults.away.get();
        if tasks.iter().any(|task| Some(&task.envelope.queue) == away) {
            return Err(BrokerError::unavailable("its server is away"));
        }
        self.inner.enqueue(tasks).await
    }

    fn is_partitioned(&self) -> bool {
        self.faults.partitioned.load(SeqCst)
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<Each<Vec<Leased>>, BrokerError> {
        self.faults.leases.fetch_add(1, SeqCst);
        assert!(!self.faults.lease_panics.load(SeqCst), "lost count");
        self.reach()?;
        self.hear(request.queues.iter().map(|(queue, _)| queue))
            .await;
        let mut request = request.clone();
        let extra = self.faults.generous.load(SeqCst);
        request.max += extra;
        for (queue, max) in &mut request.queues {
            *max += extra;
            if self.error_of(queue).is_some() {
                *max = 0;
            }
        }
        let leased = self.inner.lease(&request).await;
        pass(&self.faults.lease_answers).await;
        self.spoil(leased, request.queues.into_iter().map(|(queue, _)| queue))
    }

    async fn extend(
        &self,
        leases: &[Lease],
        lease: Duration,
    ) -> Result<Each<Extended>, BrokerError> {
        self.reach()?;
        self.faults.extensions.fetch_add(1, SeqCst);
        self.hear(leases.iter().map(|lease| &lease.task.queue))
            .await;
        let mut answers = Vec::new();
        for one in leases {
            match self.error_of(&one.task.queue) {
                Some(error) => answers.push(Err(error)),
                None => answers.extend(self.inner.extend(std::slice::from_ref(one), lease).await?),
            }
        }
        Ok(answers)
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Each<Settled>, BrokerError> {
        self.reach()?;
        assert!(!self.faults.settle_panics.load(SeqCst), "lost count");
        if self.faults.settle_fails.load(SeqCst) {
            return Err(BrokerError::unavailable("read only"));
        }
        let largest = self.faults.largest_result.load(SeqCst);
        let is_too_large = |settlement: &Settlement| matches!(&settlement.outcome, Outcome::Complete { result: Some(result) } if result.len() > largest);
        if settlements.iter().any(is_too_large) {
            return Err(BrokerError::protocol("invalid bulk length"));
        }
        self.hear(settlements.iter().map(|one| &one.envelope.queue))
            .await;
        let sick = self.faults.sick.lock().unwrap().clone();
        let mut answers = Vec::new();
        for one in settlements {
            match &sick {
                Some((sick, Sickness::Error(error) | Sickness::Outcomes(error)))
                    if *sick == one.envelope.queue =>
                {
                    answers.push(Err(error.clone()));
                }
                _ => answers.extend(self.inner.settle(std::slice::from_ref(one)).await?),
            }
        }
        Ok(answers)
    }

    async fn forward(&self, queues: &[Name], limit: usize) -> Result<Each<Forwarded>, BrokerError> {
        self.reach()?;
        self.hear(queues.iter()).await;
        let forwarded = self.inner.forward(queues, limit).await;
        self.spoil(forwarded, queues.iter().cloned())
    }

    async fn expired(
        &self,
        queues: &[Name],
        by: Timestamp,
        limit: usize,
    ) -> Result<Each<Vec<Leased>>, BrokerError> {
        self.reach()?;
        self.hear(queues.iter()).await;
        let expired = self.inner.expired(queues, by, limit).await;
        self.spoil(expired, queues.iter().cloned())
    }

    async fn trim(
        &self,
        queues: &[Name],
        keep: Keep,
        limit: usize,
    ) -> Result<Each<Trimmed>, BrokerError> {
        self.reach()?;
        self.hear(queues.iter()).await;
        let trimmed = self.inner.trim(queues, keep, limit).await;
        self.spoil(trimmed, queues.iter().cloned())
    }
}

#[async_trait]
impl Control for Faulty {
    async fn signals(&self, queues: &[Name]) -> Result<Signals, BrokerError> {
        self.reach()?;
        pass(&self.faults.subscriptions).await;
        if self.faults.deaf.load(SeqCst) {
            return Ok(stream::pending().boxed());
        }
        let rumours = stream::unfold(self.faults.rumours.subscribe(), async |mut rumours| {
            let rumour = rumours.recv().await.ok()?;
            Some((rumour, rumours))
        });
        let signals = self.inner.signals(queues).await?;
        Ok(stream::select(signals, rumours).boxed())
    }

    async fn cancel(
        &self,
        tasks: &[TaskRef],
        reason: &str,
    ) -> Result<Vec<CancelOutcome>, BrokerError> {
        self.reach()?;
        self.inner.cancel(tasks, reason).await
    }

    async fn finished(&self, task: &TaskRef) -> Result<Finished, BrokerError> {
        self.inner.finished(task).await
    }

    async fn report(&self, progress: Vec<(Lease, Progress)>) -> Result<(), BrokerError> {
        self.reach()?;
        self.inner.report(progress).await
    }

    async fn set_paused(&self, queues: &[Name], paused: bool) -> Result<(), BrokerError> {
        self.reach()?;
        self.inner.set_paused(queues, paused).await
    }

    async fn delete(&self, tasks: &[TaskRef]) -> Result<Vec<bool>, BrokerError> {
        self.reach()?;
        self.inner.delete(tasks).await
    }

    async fn run_now(&self, tasks: &[TaskRef]) -> Result<Vec<bool>, BrokerError> {
        self.reach()?;
        self.inner.run_now(tasks).await
    }

    async fn replace(&self, changes: Vec<Replacement>) -> Result<Vec<bool>, BrokerError> {
        self.reach()?;
        self.inner.replace(changes).await
    }

    async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError> {
        self.reach()?;
        self.inner.delete_queue(queue, force).await
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.reach()?;
        self.inner.ping().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[async_trait]
impl Inspect for Faulty {
    async fn queues(&self) -> Result<Vec<Name>, BrokerError> {
        self.inner.queues().await
    }

    async fn stats(&self, queues: &[Name]) -> Result<Vec<QueueStats>, BrokerError> {
        self.inner.stats(queues).await
    }

    async fn history(
        &self,
        queues: &[Name],
        since: Timestamp,
    ) -> Result<Vec<Vec<HourStats>>, BrokerError> {
        self.inner.history(queues, since).await
    }

    async fn memory(&self, queues: &[Name]) -> Result<Vec<Option<u64>>, BrokerError> {
        self.inner.memory(queues).await
    }

    async fn nodes(&self) -> Result<Vec<Node>, BrokerError> {
        self.inner.nodes().await
    }

    fn slot(&self, queue: &Name) -> Option<u16> {
        self.inner.slot(queue)
    }

    async fn tasks(&self, tasks: &[TaskRef]) -> Result<Vec<Option<TaskInfo>>, BrokerError> {
        self.inner.tasks(tasks).await
    }

    async fn list(
        &self,
        queue: &Name,
        state: TaskState,
        page: Page,
    ) -> Result<TaskPage, BrokerError> {
        self.inner.list(queue, state, page).await
    }
}
