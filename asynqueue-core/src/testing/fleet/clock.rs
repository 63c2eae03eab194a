//! The store's wall clock in a simulation: it follows the simulation's time, and can be set.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::task::{Clock, Timestamp};

/// 1 January 2026, 00:00 UTC, in milliseconds since 1970.
const START: u64 = 1_767_225_600_000;

/// The time of a simulated store. Clones show the same time.
#[derive(Clone, Debug)]
pub struct FleetClock {
    start: Instant,
    /// By how many milliseconds it was set forward in total.
    steps: Arc<AtomicI64>,
    /// The latest time that it was set back from.
    latest: Arc<AtomicU64>,
}

impl FleetClock {
    pub(super) fn start() -> Self {
        Self {
            start: Instant::now(),
            steps: Arc::default(),
            latest: Arc::default(),
        }
    }

    /// Sets it forward or back.
    pub(super) fn step(&self, millis: i64) {
        self.latest.fetch_max(self.now().as_millis(), SeqCst);
        self.steps.fetch_add(millis, SeqCst);
    }

    /// Sets it to the latest time that it has shown.
    pub(super) fn catch_up(&self) {
        let behind = self
            .latest
            .load(SeqCst)
            .saturating_sub(self.now().as_millis());
        self.step(behind as i64);
    }
}

impl Clock for FleetClock {
    fn now(&self) -> Timestamp {
        let elapsed = START + self.elapsed().as_millis() as u64;
        Timestamp::from_millis(elapsed.saturating_add_signed(self.steps.load(SeqCst)))
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
