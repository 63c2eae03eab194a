//! A store whose process dies at one of its calls: before the call, in the middle of its batch, or after it. Or it is
//! suspended before the call for a while. Both stores of a move share one life.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use asynqueue_core::{
    broker::*,
    memory::MemoryBroker,
    task::{Name, TaskRef, TaskState, Timestamp},
};
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

pub(crate) const MOMENTS: [Moment; 3] = [Moment::Before, Moment::Amid, Moment::After];

/// The life of a process, counted in calls.
#[derive(Debug)]
pub(crate) struct Life {
    calls: AtomicUsize,
    last: usize,
    moment: Moment,
    woken: Semaphore,
}

impl Life {
    /// Dies at call number `last`, counted from 0.
    pub(crate) fn until(last: usize, moment: Moment) -> Arc<Self> {
        Arc::new(Self {
            calls: AtomicUsize::new(0),
            last,
            moment,
            woken: Semaphore::new(0),
        })
    }

    /// Whether it has died.
    pub(crate) fn is_over(&self) -> bool {
        self.calls.load(SeqCst) > self.last
    }

    /// Wakes a suspended process.
    pub(crate) fn wake(&self) {
        self.woken.close();
    }

    /// How much of the next call is made, or the error of a dead process.
    async fn next(&self) -> Result<Made, BrokerError> {
        let call = self.calls.fetch_add(1, SeqCst);
        if self.moment == Moment::Asleep {
            if call == self.last {
                // An error: the semaphore is closed.
                let _ = self.woken.acquire().await;
            }
            Ok(Made::All)
        } else if call < self.last {
            Ok(Made::All)
        } else if call > self.last || self.moment == Moment::Before {
            Err(dead())
        } else if self.moment == Moment::Amid {
            Ok(Made::Half)
        } else {
            Ok(Made::Unheard)
        }
    }
}

fn dead() -> BrokerError {
    BrokerError::unavailable("the process has died")
}

/// How much of a call is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    All,
    /// Half of its batch; the process dies.
    Half,
    /// All of it; the process dies before the response.
    Unheard,
}

impl Made {
    /// How many items of a batch are processed.
    fn of(self, len: usize) -> usize {
        match self {
            Self::Half => len / 2,
            Self::All | Self::Unheard => len,
        }
    }

    /// The response, if the process is still alive.
    fn heard<T>(self, result: Result<T, BrokerError>) -> Result<T, BrokerError> {
        match self {
            Self::All => result,
            Self::Half | Self::Unheard => Err(dead()),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Mortal {
    pub(crate) store: MemoryBroker,
    pub(crate) life: Arc<Life>,
}

/// Methods whose items are not processed one by one.
macro_rules! whole {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        /// The inner calls, so that the trait's methods have one line each.
        impl Mortal {
            $(async fn $name(&self, $($arg: $ty),*) -> Result<$out, BrokerError> {
                let made = self.life.next().await?;
                if made == Made::Half {
                    return Err(dead());
                }
                made.heard(Store::$name(&self.store, $($arg),*).await)
            })*
        }
    };
}

whole! {
    lease(request: &LeaseRequest) -> Each<Vec<Leased>>;
    extend(leases: &[Lease], lease: Duration) -> Each<Extended>;
    settle(settlements: &[Settlement]) -> Each<Settled>;
    forward(queues: &[Name], limit: usize) -> Each<Forwarded>;
    expired(queues: &[Name], by: Timestamp, limit: usize) -> Each<Vec<Leased>>;
    trim(queues: &[Name], keep: Keep, limit: usize) -> Each<Trimmed>;
    queues() -> Vec<Name>;
    stats(queues: &[Name]) -> Vec<QueueStats>;
    tasks(tasks: &[TaskRef]) -> Vec<Option<TaskInfo>>;
    list(queue: &Name, state: TaskState, page: Page) -> TaskPage;
    set_paused(queues: &[Name], paused: bool) -> ();
    delete_queue(queue: &Name, force: bool) -> bool;
    document(space: Space, names: &[Name]) -> Vec<Option<Document>>;
    documents(space: Space) -> Vec<(Name, Document)>;
    due(space: Space, limit: usize) -> DueDocuments;
    history(queues: &[Name], since: Timestamp) -> Vec<Vec<HourStats>>;
    absorb(queue: &Name, id: &Name, totals: Option<&Totals>) -> bool;
    enqueue(tasks: Vec<NewTask>) -> Vec<Result<(), Conflict>>;
}

#[async_trait]
impl Store for Mortal {
    fn inner(&self) -> Option<&dyn Store> {
        Some(&self.store)
    }

    fn now(&self) -> Timestamp {
        Store::now(&self.store)
    }

    async fn edit(&self, edits: &[Edit]) -> Result<Vec<Edited>, BrokerError> {
        let made = self.life.next().await?;
        made.heard(Store::edit(&self.store, &edits[..made.of(edits.len())]).await)
    }

    async fn import(&self, mut tasks: Vec<Import>) -> Result<Vec<Imported>, BrokerError> {
        let made = self.life.next().await?;
        tasks.truncate(made.of(tasks.len()));
        made.heard(Store::import(&self.store, tasks).await)
    }

    async fn swap(&self, mut sets: Vec<Vec<DocumentSwap>>) -> Result<Vec<Swapped>, BrokerError> {
        let made = self.life.next().await?;
        sets.truncate(made.of(sets.len()));
        made.heard(Store::swap(&self.store, sets).await)
    }

    async fn close(&self) {
        Store::close(&self.store).await;
    }

    async fn enqueue(&self, tasks: Vec<NewTask>) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        self.enqueue(tasks).await
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<Each<Vec<Leased>>, BrokerError> {
        self.lease(request).await
    }

    async fn extend(
        &self,
        leases: &[Lease],
        lease: Duration,
    ) -> Result<Each<Extended>, BrokerError> {
        self.extend(leases, lease).await
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Each<Settled>, BrokerError> {
        self.settle(settlements).await
    }

    async fn forward(&self, queues: &[Name], limit: usize) -> Result<Each<Forwarded>, BrokerError> {
        self.forward(queues, limit).await
    }

    async fn expired(
        &self,
        queues: &[Name],
        by: Timestamp,
        limit: usize,
    ) -> Result<Each<Vec<Leased>>, BrokerError> {
        self.expired(queues, by, limit).await
    }

    async fn trim(
        &self,
        queues: &[Name],
        keep: Keep,
        limit: usize,
    ) -> Result<Each<Trimmed>, BrokerError> {
        self.trim(queues, keep, limit).await
    }

    async fn queues(&self) -> Result<Vec<Name>, BrokerError> {
        self.queues().await
    }

    async fn stats(&self, queues: &[Name]) -> Result<Vec<QueueStats>, BrokerError> {
        self.stats(queues).await
    }

    async fn tasks(&self, tasks: &[TaskRef]) -> Result<Vec<Option<TaskInfo>>, BrokerError> {
        self.tasks(tasks).await
    }

    async fn list(
        &self,
        queue: &Name,
        state: TaskState,
        page: Page,
    ) -> Result<TaskPage, BrokerError> {
        self.list(queue, state, page).await
    }

    async fn set_paused(&self, queues: &[Name], paused: bool) -> Result<(), BrokerError> {
        self.set_paused(queues, paused).await
    }

    async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError> {
        self.delete_queue(queue, force).await
    }

    async fn document(
        &self,
        space: Space,
        names: &[Name],
    ) -> Result<Vec<Option<Document>>, BrokerError> {
        self.document(space, names).await
    }

    async fn documents(&self, space: Space) -> Result<Vec<(Name, Document)>, BrokerError> {
        self.documents(space).await
    }

    async fn due(&self, space: Space, limit: usize) -> Result<DueDocuments, BrokerError> {
        self.due(space, limit).await
    }

    async fn history(
        &self,
        queues: &[Name],
        since: Timestamp,
    ) -> Result<Vec<Vec<HourStats>>, BrokerError> {
        self.history(queues, since).await
    }

    async fn absorb(
        &self,
        queue: &Name,
        id: &Name,
        totals: Option<&Totals>,
    ) -> Result<bool, BrokerError> {
        self.absorb(queue, id, totals).await
    }
}
