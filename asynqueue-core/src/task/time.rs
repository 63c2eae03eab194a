//! Points in time, as brokers store them.

use std::{
    fmt,
    ops::{Add, Sub},
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970, by the broker's clock.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The latest timestamp.
    pub const MAX: Self = Self(u64::MAX);

    /// The timestamp that is `millis` milliseconds after 1970.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time since `earlier`. Zero if `earlier` is later than this.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    /// Rounds a fraction of a millisecond up, so that nothing is due early.
    fn add(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(whole_millis(delay)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, delay: Duration) -> Self {
        Self(self.0.saturating_sub(whole_millis(delay)))
    }
}

pub(super) fn whole_millis(duration: Duration) -> u64 {
    duration
        .as_nanos()
        .div_ceil(1_000_000)
        .try_into()
        .unwrap_or(u64::MAX)
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(
            time.duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, whole_millis),
        )
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        SystemTime::UNIX_EPOCH + Duration::from_millis(time.0)
    }
}

/// The source of a broker's time.
///
/// Tests use a clock that they can set.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> Timestamp;

    /// The time since some earlier moment, by a clock that only moves forward and cannot be set. The memory broker
    /// measures leases with it.
    fn elapsed(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // Rounds down, while everything else rounds up: a time that is not reached must not count as reached.
        Timestamp(
            SystemTime::UNIX_EPOCH
                .elapsed()
                .map_or(0, |age| age.as_millis() as u64),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_millisecond_is_never_lost() {
        let start = Timestamp::from_millis(10);
        assert_eq!(start + Duration::from_micros(1), Timestamp::from_millis(11));
        assert_eq!(start + Duration::MAX, Timestamp::from_millis(u64::MAX));
        assert_eq!(start.since(Timestamp::from_millis(11)), Duration::ZERO);
    }
}
