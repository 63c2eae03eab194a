//! A clock that tests can set.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::task::{Clock, Timestamp};

/// A clock that stands still unless it is advanced or set. Clones show the same time.
///
/// ```
/// use asynqueue_core::{broker::Broker, memory::MemoryBroker, testing::TestClock};
/// use std::time::Duration;
///
/// let clock = TestClock::default();
/// let broker = MemoryBroker::with_clock(clock.clone());
/// let before = broker.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(broker.now(), before + Duration::from_secs(60));
/// ```
#[derive(Clone, Debug)]
pub struct TestClock(Arc<Times>);

#[derive(Debug)]
struct Times {
    /// Milliseconds since 1970.
    now: AtomicU64,
    /// Milliseconds by which it was advanced.
    elapsed: AtomicU64,
}

impl Default for TestClock {
    /// Starts on 1 January 2026, 00:00 UTC.
    fn default() -> Self {
        Self(Arc::new(Times {
            now: AtomicU64::new(1_767_225_600_000),
            elapsed: AtomicU64::new(0),
        }))
    }
}

impl TestClock {
    /// Advances the time, as if it had passed.
    pub fn advance(&self, by: Duration) {
        let now = self.now();
        let millis = (now + by).since(now).as_millis() as u64;
        self.0.elapsed.fetch_add(millis, Ordering::SeqCst);
        self.set(now + by);
    }

    /// Sets the time, as if the clock were corrected. Nothing has [elapsed](Clock::elapsed), so the memory broker's
    /// leases do not expire.
    pub fn set(&self, time: Timestamp) {
        self.0.now.store(time.as_millis(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.now.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.elapsed.load(Ordering::SeqCst))
    }
}
