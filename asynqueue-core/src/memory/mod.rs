//! The in-memory broker: the reference for all others, for tests, and for programs that need no persistence.

mod documents;
mod edit;
mod groups;
mod import;
mod inspect;
mod list;
mod listeners;
mod locks;
mod points;
mod queue;
mod store;
mod table;
mod trim;
mod waiting;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use self::{documents::Documents, points::Points, queue::Queue};
use crate::{
    broker::{BrokerError, Each, SharedBroker},
    sync::{Mutex, RwLock},
    task::{Clock, Name, SystemClock, Timestamp},
};

/// Stores tasks in this process's memory. Clones share them.
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

/// The time, and the time elapsed by a clock that only moves forward. Leases are measured with the latter, so that an
/// adjusted clock does not end them.
#[derive(Clone, Copy, Debug)]
struct Now {
    time: Timestamp,
    steady: Timestamp,
}

impl Now {
    /// The time at a moment of the steady clock.
    fn time_at(self, steady: Timestamp) -> Timestamp {
        if steady >= self.steady {
            self.time + steady.since(self.steady)
        } else {
            self.time - self.steady.since(steady)
        }
    }
}

#[derive(Debug)]
struct Inner {
    clock: Box<dyn Clock>,
    closed: AtomicBool,
    /// One lock per queue, so that queues do not block one another.
    queues: RwLock<BTreeMap<Name, Arc<Mutex<Queue>>>>,
    documents: Mutex<Documents>,
    points: Mutex<Points>,
}

impl MemoryBroker {
    /// An empty broker.
    pub fn new() -> Self {
        Self::with_clock(SystemClock)
    }

    /// An empty broker that uses the time of `clock`.
    pub fn with_clock(clock: impl Clock) -> Self {
        Self(Arc::new(Inner {
            clock: Box::new(clock),
            closed: AtomicBool::new(false),
            queues: RwLock::default(),
            documents: Mutex::default(),
            points: Mutex::default(),
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

    /// The queue, which is created if it does not exist.
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

    /// One result per queue, in order. An unknown queue has the default result.
    fn each_known<R: Default>(
        &self,
        queues: &[Name],
        mut call: impl FnMut(&mut Queue) -> R,
    ) -> Each<R> {
        let mut of = |name| {
            let queue = self.known(name);
            Ok(queue.map_or_else(R::default, |queue| call(&mut queue.lock())))
        };
        queues.iter().map(&mut of).collect()
    }

    /// One result per item, in order. Locks a queue once for each run of items in it.
    fn each_in_queue<I, R>(
        &self,
        items: impl IntoIterator<Item = I>,
        queue_of: impl Fn(&I) -> &Name,
        mut call: impl FnMut(&mut Queue, I) -> R,
    ) -> Vec<R> {
        let mut items = items.into_iter().peekable();
        let mut results = Vec::with_capacity(items.size_hint().0);
        while let Some(first) = items.next() {
            let name = queue_of(&first).clone();
            let queue = self.queue(&name);
            let mut queue = queue.lock();
            results.push(call(&mut queue, first));
            while let Some(item) = items.next_if(|item| *queue_of(item) == name) {
                results.push(call(&mut queue, item));
            }
        }
        results
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
