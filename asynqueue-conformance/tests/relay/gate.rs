//! A broker and an outbox whose relay dies, or is suspended, at one of its calls. The broker rejects some tasks, and does
//! not respond for some queues.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use asynqueue_conformance::outbox::ListOutbox;
use asynqueue_core::{
    broker::*,
    memory::MemoryBroker,
    outbox::{Done, FailedEntry, Outbox, OutboxError, OutboxSize, Take, Taken, Which},
    task::{Name, TaskRef, TaskState, Timestamp},
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// Where in a call the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Before,
    /// Half of the batch was processed.
    Amid,
    After,
    /// The process is suspended before the call, and continues once it is woken.
    Asleep,
}

/// The life of a process, counted in calls.
#[derive(Debug)]
pub(crate) struct Life {
    calls: AtomicUsize,
    last: usize,
    moment: Moment,
    woken: Semaphore,
}

/// How much of a call is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    All,
    Half,
    /// All of it, without a response.
    Unheard,
}

impl Life {
    /// Ends at call number `last`, counted from 0.
    pub(crate) fn until(last: usize, moment: Moment) -> Arc<Self> {
        Arc::new(Self {
            calls: AtomicUsize::new(0),
            last,
            moment,
            woken: Semaphore::new(0),
        })
    }

    /// Does not end.
    pub(crate) fn endless() -> Arc<Self> {
        Self::until(usize::MAX, Moment::Before)
    }

    /// Whether it has ended, or the process sleeps.
    pub(crate) fn is_over(&self) -> bool {
        self.calls.load(SeqCst) > self.last
    }

    pub(crate) fn wake(&self) {
        self.woken.close();
    }

    /// How much of the next call is made. A dead process makes no more calls.
    async fn next(&self) -> Made {
        let call = self.calls.fetch_add(1, SeqCst);
        match self.moment {
            Moment::Asleep => {
                if call >= self.last {
                    // An error: the semaphore is closed.
                    let _ = self.woken.acquire().await;
                }
                Made::All
            }
            _ if call < self.last => Made::All,
            Moment::Amid if call == self.last => Made::Half,
            Moment::After if call == self.last => Made::Unheard,
            _ => std::future::pending().await,
        }
    }
}

impl Made {
    /// The response, if the process is still alive.
    async fn heard<T>(self, result: T) -> T {
        match self {
            Self::All => result,
            Self::Half | Self::Unheard => std::future::pending().await,
        }
    }
}

/// What a broker does wrong, and what it has accepted.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Tasks that it rejects permanently, with the whole call, unless their number was used.
    pub(crate) rejected: Mutex<BTreeSet<String>>,
    /// Queues that do not respond.
    pub(crate) silent: Mutex<BTreeSet<Name>>,
    /// The tasks that were accepted, in their order.
    pub(crate) accepted: Mutex<Vec<TaskRef>>,
    pub(crate) refused: Mutex<Vec<TaskRef>>,
    /// The last number of each queue.
    pub(crate) last: Mutex<BTreeMap<Name, Timestamp>>,
    /// How many times tasks were sent.
    pub(crate) calls: AtomicUsize,
}

#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) store: MemoryBroker,
    pub(crate) faults: Arc<Faults>,
    pub(crate) life: Arc<Life>,
}

impl Gate {
    async fn accept(&self, tasks: Vec<NewTask>) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        let sent = tasks.iter();
        let sent = sent.map(|task| (task.envelope.task_ref(), task.tick.clone()));
        let sent: Vec<_> = sent.collect();
        let results = Store::enqueue(&self.store, tasks).await?;
        for ((task, tick), result) in sent.into_iter().zip(&results) {
            match result {
                Ok(()) => {
                    let tick = tick.map_or(Timestamp::default(), |guard| guard.tick);
                    self.faults.last.lock().insert(task.queue.clone(), tick);
                    self.faults.accepted.lock().push(task);
                }
                Err(Conflict::Fired { .. }) => {}
                Err(_) => self.faults.refused.lock().push(task),
            }
        }
        Ok(results)
    }
}

#[async_trait]
impl Store for Gate {
    fn inner(&self) -> Option<&dyn Store> {
        Some(&self.store)
    }

    fn now(&self) -> Timestamp {
        Store::now(&self.store)
    }

    async fn enqueue(
        &self,
        mut tasks: Vec<NewTask>,
    ) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        let made = self.life.next().await;
        self.faults.calls.fetch_add(1, SeqCst);
        let silent = self.faults.silent.lock().clone();
        if tasks
            .iter()
            .any(|task| silent.contains(&task.envelope.queue))
        {
            return Err(BrokerError::unavailable("no response"));
        }
        let rejected = self.faults.rejected.lock().clone();
        let last = self.faults.last.lock().clone();
        let is_rejected = |task: &NewTask| {
            let tick = task.tick.as_ref().map(|guard| guard.tick);
            let is_new = tick > last.get(&task.envelope.queue).copied();
            is_new && rejected.contains(task.envelope.id.as_str())
        };
        if let Some(task) = tasks.iter().find(|task| is_rejected(task)) {
            let problem = format!("task {} is too large", task.envelope.id);
            return made.heard(Err(BrokerError::protocol(problem))).await;
        }
        if made == Made::Half {
            tasks.truncate(tasks.len() / 2);
        }
        let results = self.accept(tasks).await;
        made.heard(results).await
    }

    async fn swap(&self, sets: Vec<Vec<DocumentSwap>>) -> Result<Vec<Swapped>, BrokerError> {
        let made = self.life.next().await;
        made.heard(Store::swap(&self.store, sets).await).await
    }

    async fn close(&self) {
        Store::close(&self.store).await;
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<Each<Vec<Leased>>, BrokerError> {
        Store::lease(&self.store, request).await
    }

    async fn extend(
        &self,
        leases: &[Lease],
        lease: Duration,
    ) -> Result<Each<Extended>, BrokerError> {
        Store::extend(&self.store, leases, lease).await
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Each<Settled>, BrokerError> {
        Store::settle(&self.store, settlements).await
    }

    async fn forward(&self, queues: &[Name], limit: usize) -> Result<Each<Forwarded>, BrokerError> {
        Store::forward(&self.store, queues, limit).await
    }

    async fn expired(
        &self,
        queues: &[Name],
        by: Timestamp,
        limit: usize,
    ) -> Result<Each<Vec<Leased>>, BrokerError> {
        Store::expired(&self.store, queues, by, limit).await
    }

    async fn trim(
        &self,
        queues: &[Name],
        keep: Keep,
        limit: usize,
    ) -> Result<Each<Trimmed>, BrokerError> {
        Store::trim(&self.store, queues, keep, limit).await
    }

    async fn queues(&self) -> Result<Vec<Name>, BrokerError> {
        Store::queues(&self.store).await
    }

    async fn stats(&self, queues: &[Name]) -> Result<Vec<QueueStats>, BrokerError> {
        Store::stats(&self.store, queues).await
    }

    async fn tasks(&self, tasks: &[TaskRef]) -> Result<Vec<Option<TaskInfo>>, BrokerError> {
        Store::tasks(&self.store, tasks).await
    }

    async fn list(
        &self,
        queue: &Name,
        state: TaskState,
        page: Page,
    ) -> Result<TaskPage, BrokerError> {
        Store::list(&self.store, queue, state, page).await
    }

    async fn edit(&self, edits: &[Edit]) -> Result<Vec<Edited>, BrokerError> {
        Store::edit(&self.store, edits).await
    }

    async fn set_paused(&self, queues: &[Name], paused: bool) -> Result<(), BrokerError> {
        Store::set_paused(&self.store, queues, paused).await
    }

    async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError> {
        Store::delete_queue(&self.store, queue, force).await
    }

    async fn document(
        &self,
        space: Space,
        names: &[Name],
    ) -> Result<Vec<Option<Document>>, BrokerError> {
        Store::document(&self.store, space, names).await
    }

    async fn documents(&self, space: Space) -> Result<Vec<(Name, Document)>, BrokerError> {
        Store::documents(&self.store, space).await
    }

    async fn due(&self, space: Space, limit: usize) -> Result<DueDocuments, BrokerError> {
        Store::due(&self.store, space, limit).await
    }
}

/// An outbox whose relay dies at one of its calls.
#[derive(Clone, Debug)]
pub(crate) struct MortalOutbox {
    pub(crate) outbox: ListOutbox,
    pub(crate) life: Arc<Life>,
}

#[async_trait]
impl Outbox for MortalOutbox {
    fn name(&self) -> &Name {
        self.outbox.name()
    }

    async fn take(&self, take: &Take<'_>) -> Result<Taken, OutboxError> {
        let made = self.life.next().await;
        made.heard(self.outbox.take(take).await).await
    }

    async fn finish(&self, relay: &Name, done: &[Done]) -> Result<bool, OutboxError> {
        let made = self.life.next().await;
        made.heard(self.outbox.finish(relay, done).await).await
    }

    async fn leave(&self, relay: &Name) -> Result<(), OutboxError> {
        self.outbox.leave(relay).await
    }

    async fn size(&self) -> Result<OutboxSize, OutboxError> {
        self.outbox.size().await
    }

    async fn failed(&self, after: u64, limit: usize) -> Result<Vec<FailedEntry>, OutboxError> {
        self.outbox.failed(after, limit).await
    }

    async fn retry(&self, which: Which<'_>) -> Result<u64, OutboxError> {
        let made = self.life.next().await;
        made.heard(self.outbox.retry(which).await).await
    }

    async fn delete(&self, which: Which<'_>) -> Result<u64, OutboxError> {
        let made = self.life.next().await;
        made.heard(self.outbox.delete(which).await).await
    }

    async fn changed(&self) {
        self.outbox.changed().await;
    }
}
