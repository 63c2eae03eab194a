//! What a store supplies for a run: the way to it, its faults, and what may be left in it.

use async_trait::async_trait;
use asynqueue_core::broker::SharedBroker;

use super::{dice::Dice, scene::Scene};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its name in `ASYNQUEUE_CHAOS_FAULTS`, in journals and in the table.
    pub name: &'static str,
    /// Whether it can prevent a worker from extending its leases. The first third of a run has no such faults: nothing
    /// excuses a lost lease then.
    pub cuts_off: bool,
    /// Whether it is chosen as often as all others together in the first third of a run.
    pub is_frequent: bool,
}

impl Fault {
    /// SIGKILL of a producer, a worker or the operator.
    pub(crate) const KILL: Self = Self::severe("kill");
    /// SIGSTOP and SIGCONT of one.
    pub(crate) const STOP: Self = Self::severe("stop");
    /// A process ends in order, and another takes its place.
    pub(crate) const DEPLOY: Self = Self::mild("deploy");

    /// The faults of processes, which every stage has.
    pub(crate) const OF_PROCESSES: [Self; 3] = [Self::KILL, Self::STOP, Self::DEPLOY];

    /// A fault that can prevent a worker from extending its leases.
    pub const fn severe(name: &'static str) -> Self {
        Self {
            name,
            cuts_off: true,
            is_frequent: false,
        }
    }

    /// A fault that costs no lease.
    pub const fn mild(name: &'static str) -> Self {
        Self {
            name,
            cuts_off: false,
            is_frequent: false,
        }
    }

    /// Makes it as frequent as all others together in the first third of a run.
    #[must_use]
    pub const fn frequent(mut self) -> Self {
        self.is_frequent = true;
        self
    }
}

/// A store in a run, with everything that can break it.
#[async_trait]
pub trait Stage: Send + Sync + 'static {
    /// What kind of store it is, for the table of the run: `one Redis with an append-only file`.
    fn title(&self) -> String;

    /// The faults that it can inject. They exclude those of processes.
    fn faults(&self) -> Vec<Fault>;

    /// The URL by which the processes of a place reach the store, through what the stage can break. Called once for
    /// each place.
    async fn url(&self, place: &str) -> String;

    /// A broker for the checker, which no fault concerns except those of the store itself.
    async fn broker(&self) -> SharedBroker;

    /// Injects a fault, and returns once it is over. Does nothing if the chosen target has a fault already. Records the
    /// fault by [`Scene::during`].
    async fn inject(&self, fault: Fault, scene: &Scene, dice: &mut Dice);

    /// Returns once the store responds. A slow response excuses a lost lease, because the machine is short of time.
    async fn respond(&self);

    /// What is in the store but should not be, once all tasks have ended and were deleted. Also a damage of the store
    /// itself.
    async fn left(&self) -> Vec<String>;

    /// More rows for the table of the run. Default: none.
    fn figures(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}
