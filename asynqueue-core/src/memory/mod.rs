//! The in-memory broker: the reference for all others, for tests, and for programs whose tasks may end with them.

mod control;
mod declared;
mod entries;
mod fleet;
mod groups;
mod inspect;
mod listeners;
mod locks;
mod queue;
mod schedules;
mod table;
mod trim;
mod waiting;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};

use self::{fleet::SubscriptionTable, queue::Queue, schedules::ScheduleTable};
use crate::{
    broker::{
        Broker, BrokerError, Conflict, Each, Extended, Forwarded, Keep, Lease, LeaseRequest,
        Leased, NewTask, QuietRequest, ServerInfo, Settled, Settlement, SharedBroker, TaskInfo,
        Trimmed,
    },
    task::{Clock, Name, SystemClock, Timestamp},
};

/// Keeps tasks in this process's memory. Clones share them.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), asynqueue_core::broker::BrokerError> {
/// use asynqueue_core::{broker::Inspect, memory::MemoryBroker};
///
/// let broker = MemoryBroker::new();
/// assert!(broker.queues().await?.is_empty());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct MemoryBroker(Arc<Inner>);

/// The time, and the time elapsed by a clock that only moves forward: leases are measured by the latter, so that a step of
/// the clock ends none.
#[derive(Clone, Copy, Debug)]
struct Now {
    time: Timestamp,
    steady: Timestamp,
}

impl Now {
    /// The time that it will be, or was, at a moment of the steady clock.
    fn time_at(self, steady: Timestamp) -> Timestamp {
        if steady >= self.steady {
            self.time + steady.since(self.steady)
        } else {
            self.time - self.steady.since(steady)
        }
    }

    /// A task as others see it, with the end of its lease by the broker's clock.
    fn shown(self, mut task: TaskInfo) -> TaskInfo {
        if let Some(lease) = &mut task.lease {
            lease.until = self.time_at(lease.until);
        }
        task
    }
}

#[derive(Debug)]
struct Inner {
    clock: Box<dyn Clock>,
    closed: AtomicBool,
    /// A lock for each queue, so that queues don't wait for one another.
    queues: RwLock<BTreeMap<Name, Arc<Mutex<Queue>>>>,
    schedules: Mutex<ScheduleTable>,
    servers: Mutex<BTreeMap<Name, KnownServer>>,
    subscriptions: Mutex<SubscriptionTable>,
}

/// What is known of a server.
#[derive(Debug)]
struct KnownServer {
    info: ServerInfo,
    /// Until when it is remembered.
    until: Timestamp,
    /// What it is asked for.
    requested: Option<QuietRequest>,
}

impl MemoryBroker {
    /// An empty broker.
    pub fn new() -> Self {
        Self::with_clock(SystemClock)
    }

    /// An empty broker that takes the time from `clock`.
    pub fn with_clock(clock: impl Clock) -> Self {
        Self(Arc::new(Inner {
            clock: Box::new(clock),
            closed: AtomicBool::new(false),
            queues: RwLock::default(),
            schedules: Mutex::default(),
            servers: Mutex::default(),
            subscriptions: Mutex::default(),
        }))
    }

    fn open(&self) -> Result<(), BrokerError> {
        if self.0.closed.load(Ordering::Acquire) {
            Err(BrokerError::Closed)
        } else {
            Ok(())
        }
    }

    fn clock_now(&self) -> Timestamp {
        self.0.clock.now()
    }

    fn now_and_steady(&self) -> Now {
        Now {
            time: self.0.clock.now(),
            steady: Timestamp::default() + self.0.clock.elapsed(),
        }
    }

    /// The queue, if it has ever had a task or a listener.
    fn known(&self, name: &Name) -> Option<Arc<Mutex<Queue>>> {
        self.0.queues.read().get(name).cloned()
    }

    /// The queue, made if it is new.
    fn queue(&self, name: &Name) -> Arc<Mutex<Queue>> {
        if let Some(queue) = self.known(name) {
            return queue;
        }
        let mut queues = self.0.queues.write();
        Arc::clone(
            queues
                .entry(name.clone())
                .or_insert_with(|| Arc::new(Mutex::new(Queue::new(name.clone())))),
        )
    }

    /// Answers each queue in its order: one that is not known as if it were empty.
    fn each_known<R: Default>(
        &self,
        queues: &[Name],
        mut answer: impl FnMut(&mut Queue) -> R,
    ) -> Each<R> {
        let mut of = |name| {
            let queue = self.known(name);
            Ok(queue.map_or_else(R::default, |queue| answer(&mut queue.lock())))
        };
        queues.iter().map(&mut of).collect()
    }

    /// Answers each item in its order, locking a queue once for each run of items that are in it.
    fn each_in_queue<I, R>(
        &self,
        items: impl IntoIterator<Item = I>,
        queue_of: impl Fn(&I) -> &Name,
        mut answer: impl FnMut(&mut Queue, I) -> R,
    ) -> Vec<R> {
        let mut items = items.into_iter().peekable();
        let mut answers = Vec::with_capacity(items.size_hint().0);
        while let Some(first) = items.next() {
            let name = queue_of(&first).clone();
            let queue = self.queue(&name);
            let mut queue = queue.lock();
            answers.push(answer(&mut queue, first));
            while let Some(item) = items.next_if(|item| *queue_of(item) == name) {
                answers.push(answer(&mut queue, item));
            }
        }
        answers
    }
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl From<MemoryBroker> for SharedBroker {
    fn from(broker: MemoryBroker) -> Self {
        Arc::new(broker)
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    fn now(&self) -> Timestamp {
        self.clock_now()
    }

    async fn enqueue(&self, tasks: Vec<NewTask>) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        Ok(self.each_in_queue(
            tasks,
            |task| &task.envelope.queue,
            |queue, task| queue.enqueue(task, now),
        ))
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<Each<Vec<Leased>>, BrokerError> {
        self.open()?;
        let (now, mut left) = (self.now_and_steady(), request.max);
        let lease = |(name, cap): &(Name, usize)| {
            let mut leased = Vec::new();
            if let Some(queue) = self.known(name) {
                let (lease, worker) = (request.lease, &request.worker);
                let count = (*cap).min(left);
                queue.lock().lease(count, now, lease, worker, &mut leased);
            }
            left -= leased.len();
            Ok(leased)
        };
        Ok(request.queues.iter().map(lease).collect())
    }

    async fn extend(
        &self,
        leases: &[Lease],
        lease: Duration,
    ) -> Result<Each<Extended>, BrokerError> {
        self.open()?;
        let until = self.now_and_steady().steady + lease;
        Ok(self.each_in_queue(
            leases,
            |lease| &lease.task.queue,
            |queue, lease| Ok(queue.extend(&lease.task.id, lease.token, until)),
        ))
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Each<Settled>, BrokerError> {
        self.open()?;
        let now = self.now_and_steady();
        Ok(self.each_in_queue(
            settlements,
            |settlement| &settlement.envelope.queue,
            |queue, settlement| Ok(queue.settle(settlement, now)),
        ))
    }

    async fn forward(&self, queues: &[Name], limit: usize) -> Result<Each<Forwarded>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        let forward = |queue: &mut Queue| Forwarded {
            moved: queue.forward(now, limit),
            next_due: queue.next_due(),
        };
        Ok(self.each_known(queues, forward))
    }

    async fn expired(
        &self,
        queues: &[Name],
        by: Timestamp,
        limit: usize,
    ) -> Result<Each<Vec<Leased>>, BrokerError> {
        self.open()?;
        let now = self.now_and_steady();
        Ok(self.each_known(queues, |queue| {
            let mut expired = Vec::new();
            queue.expired(now, by, limit, &mut expired);
            expired
        }))
    }

    async fn trim(
        &self,
        queues: &[Name],
        keep: Keep,
        limit: usize,
    ) -> Result<Each<Trimmed>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        Ok(self.each_known(queues, |queue| queue.trim(now, keep, limit)))
    }
}
