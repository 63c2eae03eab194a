//! A store that misbehaves on demand.

use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use asynqueue_core::{
    broker::{BrokerError, Each, SharedBroker, Signal, Store},
    memory::MemoryBroker,
    task::Name,
};
use tokio::sync::{Semaphore, broadcast};

/// Wraps an in-memory store.
#[derive(Clone, Debug)]
pub(crate) struct Faulty {
    pub(super) inner: MemoryBroker,
    pub(crate) faults: Arc<Faults>,
}

#[derive(Debug)]
pub(crate) struct Faults {
    /// No signal ever arrives.
    pub(crate) deaf: AtomicBool,
    /// False signals for all listeners from then on.
    pub(crate) rumours: broadcast::Sender<Signal>,
    /// How many tasks more than requested a lease returns.
    pub(crate) generous: AtomicUsize,
    /// The broker is unreachable.
    pub(crate) unavailable: AtomicBool,
    /// A queue that accepts no tasks.
    pub(crate) away: OnceLock<Name>,
    /// A queue that fails in every call, and how.
    pub(crate) sick: Mutex<Option<(Name, Sickness)>>,
    /// The broker is partitioned: a call for one queue waits for no other.
    pub(crate) partitioned: AtomicBool,
    /// Leasing panics.
    pub(crate) lease_panics: AtomicBool,
    /// Recording outcomes panics.
    pub(crate) settle_panics: AtomicBool,
    /// Outcomes cannot be recorded.
    pub(crate) settle_fails: AtomicBool,
    /// Figures over time and audit entries cannot be added.
    pub(crate) points_fail: AtomicBool,
    /// The store keeps no figures over time and no audit entries.
    pub(crate) pointless: AtomicBool,
    /// Tasks of further calls cannot be changed after this many.
    pub(crate) changes_left: AtomicUsize,
    /// Results above this size in bytes are rejected, with everything recorded in the same call.
    pub(crate) largest_result: AtomicUsize,
    /// Entries whose name starts with this cannot be fired.
    pub(crate) unfired: Mutex<Option<&'static str>>,
    /// Firing entries whose name starts with this never returns.
    pub(crate) unanswered: Mutex<Option<&'static str>>,
    /// Payloads above this size in bytes are rejected when they replace a group.
    pub(crate) max_aggregate: AtomicUsize,
    /// A group that is unreachable.
    pub(crate) away_group: OnceLock<Name>,
    /// Reading the groups of this queue never returns.
    pub(crate) silent: OnceLock<Name>,
    /// How many calls requested due entries.
    pub(crate) turns: AtomicUsize,
    /// How many lease calls there were.
    pub(crate) leases: AtomicUsize,
    /// How many calls extended leases.
    pub(crate) extensions: AtomicUsize,
    /// How many calls of `enqueue` there were.
    pub(crate) enqueues: AtomicUsize,
    /// Each call of `enqueue` takes a permit.
    pub(crate) enqueue_gate: Semaphore,
    /// Each response to a lease takes a permit.
    pub(crate) lease_answers: Semaphore,
    /// Each subscription to signals takes a permit.
    pub(crate) subscriptions: Semaphore,
}

/// How a queue fails.
#[derive(Clone, Debug)]
pub(crate) enum Sickness {
    /// With this error.
    Error(BrokerError),
    /// Calls for it never return.
    Silence,
    /// Only its outcomes fail, with this error.
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
            points_fail: AtomicBool::new(false),
            pointless: AtomicBool::new(false),
            changes_left: AtomicUsize::new(usize::MAX),
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

    /// Makes a queue fail.
    pub(crate) fn fall_sick(&self, queue: &'static str, how: Sickness) {
        *self.faults.sick.lock().unwrap() = Some((queue.into(), how));
    }

    /// Makes all queues respond again.
    pub(crate) fn recover(&self) {
        *self.faults.sick.lock().unwrap() = None;
    }

    /// The error that a queue fails with.
    pub(super) fn error_of(&self, queue: &Name) -> Option<BrokerError> {
        match &*self.faults.sick.lock().unwrap() {
            Some((sick, Sickness::Error(error))) if sick == queue => Some(error.clone()),
            _ => None,
        }
    }

    /// Does not return while one of these queues is not responding.
    pub(super) async fn hear(&self, queues: impl Iterator<Item = &Name> + Send) {
        let sick = self.faults.sick.lock().unwrap().clone();
        if let Some((sick, Sickness::Silence)) = sick
            && { queues }.any(|queue| *queue == sick)
        {
            std::future::pending::<()>().await;
        }
    }

    /// Replaces the results of a failing queue with errors.
    pub(super) fn spoil<T>(
        &self,
        answers: Result<Each<T>, BrokerError>,
        queues: impl Iterator<Item = Name>,
    ) -> Result<Each<T>, BrokerError> {
        let spoil = |(answer, queue): (Result<T, BrokerError>, Name)| {
            self.error_of(&queue).map_or(answer, Err)
        };
        Ok(answers?.into_iter().zip(queues).map(spoil).collect())
    }

    pub(super) fn reach(&self) -> Result<(), BrokerError> {
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

#[test]
fn a_store_is_found_in_those_that_wrap_it() {
    let (inner, other) = (MemoryBroker::new(), MemoryBroker::new());
    let faulty = Faulty::new(&inner);
    let store: &dyn Store = &faulty;
    assert!(store.downcast_ref::<Faulty>().is_some());
    assert!(store.downcast_ref::<MemoryBroker>().is_some());
    let store: &dyn Store = &other;
    assert!(store.downcast_ref::<Faulty>().is_none());
}

/// Blocks all callers until permits are added.
pub(crate) fn shut(gate: &Semaphore) {
    gate.forget_permits(Semaphore::MAX_PERMITS);
}

pub(super) async fn pass(gate: &Semaphore) {
    gate.acquire().await.expect("never closed").forget();
}
