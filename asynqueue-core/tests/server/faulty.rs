//! A store that misbehaves on demand.

use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use asynqueue_core::{
    broker::{BrokerError, Each, SharedBroker, Signal},
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
    pub(super) fn error_of(&self, queue: &Name) -> Option<BrokerError> {
        match &*self.faults.sick.lock().unwrap() {
            Some((sick, Sickness::Error(error))) if sick == queue => Some(error.clone()),
            _ => None,
        }
    }

    /// Does not return while a queue does not answer that is asked for.
    pub(super) async fn hear(&self, queues: impl Iterator<Item = &Name> + Send) {
        let sick = self.faults.sick.lock().unwrap().clone();
        if let Some((sick, Sickness::Silence)) = sick
            && { queues }.any(|queue| *queue == sick)
        {
            std::future::pending::<()>().await;
        }
    }

    /// Puts errors in place of the answers of a queue that fails.
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

/// Lets nobody pass until permits are added.
pub(crate) fn shut(gate: &Semaphore) {
    gate.forget_permits(Semaphore::MAX_PERMITS);
}

pub(super) async fn pass(gate: &Semaphore) {
    gate.acquire().await.expect("never closed").forget();
}
