//! An outbox, a broker and workers, with one clock.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use asynqueue_conformance::outbox::ListOutbox;
use asynqueue_core::{
    broker::{LeaseRequest, NewTask, Outcome, SharedBroker, Store, When, all_of},
    codec::{CodecName, MessagePack},
    memory::MemoryBroker,
    outbox::{Outbox, Relay},
    task::{Envelope, Name, TaskId, UniqueKey, UniqueLock, UniqueUntil},
    testing::TestClock,
};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::gate::{Faults, Gate, Life, MortalOutbox};

pub(crate) const QUEUES: [&str; 2] = ["a", "b"];

pub(crate) struct Stage {
    pub(crate) clock: TestClock,
    pub(crate) store: MemoryBroker,
    pub(crate) outbox: ListOutbox,
    pub(crate) faults: Arc<Faults>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let clock = TestClock::default();
        Self {
            store: MemoryBroker::with_clock(clock.clone()),
            outbox: ListOutbox::with_clock(clock.clone()),
            faults: Arc::default(),
            clock,
        }
    }

    /// A relay by a process with this life.
    pub(crate) fn relay(&self, life: &Arc<Life>) -> Relay {
        self.relay_of(&self.outbox, life)
    }

    pub(crate) fn relay_of(&self, outbox: &ListOutbox, life: &Arc<Life>) -> Relay {
        let broker: SharedBroker = Arc::new(Gate {
            store: self.store.clone(),
            faults: Arc::clone(&self.faults),
            life: Arc::clone(life),
        });
        let outbox: Arc<dyn Outbox> = Arc::new(MortalOutbox {
            outbox: outbox.clone(),
            life: Arc::clone(life),
        });
        Relay::new(broker, outbox)
    }

    /// Runs a relay until its life has ended, which kills it, or until nothing waits, which stops it.
    pub(crate) async fn run(&self, life: &Arc<Life>) {
        let is_drained = async || self.waiting().await == 0;
        let stop = CancellationToken::new();
        let relay = self.relay(life).run(stop.cancelled());
        tokio::pin!(relay);
        tokio::select! {
            () = &mut relay => panic!("the relay has ended"),
            () = until("the relay has ended", async || life.is_over() || is_drained().await) => {}
        }
        if !life.is_over() {
            stop.cancel();
            relay.await;
        }
    }

    pub(crate) async fn waiting(&self) -> u64 {
        self.outbox.size().await.expect("a size").waiting
    }

    /// The reasons of failed entries, with their ids.
    pub(crate) async fn failed(&self) -> Vec<(String, String)> {
        let failed = self.outbox.failed(0, 100).await.expect("entries");
        failed
            .into_iter()
            .map(|entry| (entry.id, entry.reason))
            .collect()
    }

    /// The ids that the broker has accepted for a queue, in their order.
    pub(crate) fn accepted(&self, queue: &str) -> Vec<String> {
        let accepted = self.faults.accepted.lock();
        let of_queue = accepted.iter().filter(|task| task.queue == *queue);
        of_queue.map(|task| task.id.to_string()).collect()
    }

    pub(crate) fn calls(&self) -> usize {
        self.faults.calls.load(SeqCst)
    }

    /// Workers complete everything, so that no id and no lock is left.
    pub(crate) async fn work(&self) {
        loop {
            let queues = QUEUES.map(|queue| (Name::from(queue), 100)).to_vec();
            let request = LeaseRequest::new(queues, 200, Duration::from_secs(30), "worker".into());
            let leased = all_of(Store::lease(&self.store, &request).await).expect("leased");
            let leased: Vec<_> = leased.into_iter().flatten().collect();
            if leased.is_empty() {
                return;
            }
            let done = Outcome::Complete { result: None };
            let settled: Vec<_> = leased
                .into_iter()
                .map(|task| task.settle(done.clone()))
                .collect();
            all_of(Store::settle(&self.store, &settled).await).expect("settled");
        }
    }
}

/// A task of a queue.
pub(crate) fn task(queue: &str, id: &str) -> NewTask {
    let codec = CodecName::of::<MessagePack>();
    let id = TaskId::new(id).expect("an id");
    let mut envelope = Envelope::new(id, "event", codec, Bytes::new());
    envelope.queue = queue.into();
    Arc::make_mut(&mut envelope.options).queue = queue.into();
    NewTask::new(envelope, When::Now)
}

/// A task that holds a lock until it is done.
pub(crate) fn unique(queue: &str, id: &str, key: &str) -> NewTask {
    let mut task = task(queue, id);
    let ttl = Duration::from_secs(3_600);
    let lock = UniqueLock::new(UniqueKey::new(key), UniqueUntil::Success, ttl);
    task.envelope.unique = Some(Box::new(lock));
    task
}

/// Waits for a condition. The time stands still while anything else can run.
pub(crate) async fn until(what: &str, is_met: impl AsyncFn() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(600);
    while !is_met().await {
        assert!(tokio::time::Instant::now() < limit, "not met: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs relays beside a test, until it ends.
pub(crate) async fn beside(relays: impl Future, test: impl Future) {
    tokio::select! {
        _ = relays => panic!("a relay has ended"),
        _ = test => {}
    }
}
