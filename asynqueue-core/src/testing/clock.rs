//! A clock that tests set.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::task::{Clock, Timestamp};

/// A clock that stands still until it is told otherwise. Clones show the same time.
///
/// ```
/// use asynqueue_core::{Broker, MemoryBroker, testing::TestClock};
/// use std::time::Duration;
///
/// let clock = TestClock::default();
/// let broker = MemoryBroker::with_clock(clock.clone());
/// let before = broker.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(broker.now(), before + Duration::from_secs(60));
/// ```
#[derive(Clone, Debug)]
pub struct TestClock(Arc<AtomicU64>);

impl Default for TestClock {
    /// Starts on 1 January 2026, 00:00 UTC.
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(1_767_225_600_000)))
    }
}

impl TestClock {
    /// Moves the time on.
    pub fn advance(&self, by: Duration) {
        self.set(self.now() + by);
    }

    /// Sets the time.
    pub fn set(&self, time: Timestamp) {
        self.0.store(time.as_millis(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}
