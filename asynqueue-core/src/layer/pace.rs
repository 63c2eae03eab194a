//! How fast turns become free: by the clock, or as attempts end.

use std::time::Duration;

use tokio::time::Instant;

use crate::sync::Mutex;

/// Turns at a steady rate after a burst: the generic cell rate algorithm (GCRA).
#[derive(Debug)]
pub(super) struct Turns {
    /// The time between two starts at the steady rate.
    interval: Duration,
    /// How far starts may be ahead of the steady rate.
    burst: Duration,
    /// When the next start would be due at the steady rate.
    next: Mutex<Option<Instant>>,
}

/// The upper bound of a period, so that adding it to the current time does not overflow.
const LONGEST: Duration = Duration::from_secs(1_000 * 365 * 24 * 3600);

impl Turns {
    pub(super) fn new(max: u32, period: Duration) -> Self {
        let period = period.min(LONGEST);
        let interval = period / max.max(1);
        Self {
            interval,
            burst: period - interval,
            next: Mutex::new(None),
        }
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Takes the next turn if it comes within `limit`. Returns the time until then.
    pub(super) fn take_within(&self, limit: Duration) -> Option<Duration> {
        let now = Instant::now();
        let mut next = self.next.lock();
        let due = next.unwrap_or(now).max(now);
        let wait = (due - now).saturating_sub(self.burst);
        if wait > limit {
            return None;
        }
        *next = Some(due + self.interval);
        Some(wait)
    }

    /// Returns an unused turn.
    pub(super) fn return_turn(&self) {
        let mut next = self.next.lock();
        *next = next.and_then(|next| next.checked_sub(self.interval));
    }

    /// How many turns there are in which period.
    pub(super) fn rate(&self) -> (u64, Duration) {
        let period = self.interval + self.burst;
        let interval = self.interval.as_nanos().max(1);
        let max = (period.as_nanos() + interval / 2) / interval;
        (u64::try_from(max).unwrap_or(u64::MAX), period)
    }

    /// How many turns of the current burst are taken.
    pub(super) fn used(&self) -> u64 {
        let next = *self.next.lock();
        let taken = next.map_or(Duration::ZERO, |next| {
            next.saturating_duration_since(Instant::now())
        });
        let used = taken.as_nanos().div_ceil(self.interval.as_nanos().max(1));
        u64::try_from(used).unwrap_or(u64::MAX).min(self.rate().0)
    }

    /// The time until the next turn.
    pub(super) fn wait(&self) -> Duration {
        let next = *self.next.lock();
        next.map_or(Duration::ZERO, |next| {
            let until = next.saturating_duration_since(Instant::now());
            until.saturating_sub(self.burst)
        })
    }

    /// How long there has been a turn to take.
    pub(super) fn idle(&self) -> Duration {
        let next = *self.next.lock();
        // If no turn was ever taken, one has always been free.
        let since = next.map(|next| next.checked_sub(self.burst));
        since
            .flatten()
            .map_or(Duration::MAX, |since| since.elapsed())
    }
}

/// The duration of attempts, where one ends before the next starts.
#[derive(Debug)]
pub(super) struct Pace(Mutex<Attempts>);

#[derive(Debug)]
struct Attempts {
    /// The average duration of recent attempts, once one has ended.
    took: Option<Duration>,
    /// The same, updated only after a large change, so that tasks that wait by one pace keep their order.
    steady: Duration,
    /// When an attempt last started or ended.
    changed: Instant,
}

/// The assumed duration until an attempt has ended. It is short, because a task that comes back too early only comes
/// again.
const AT_FIRST: Duration = Duration::from_millis(10);

impl Pace {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Attempts {
            took: None,
            steady: AT_FIRST,
            changed: Instant::now(),
        }))
    }

    pub(super) fn started(&self) {
        self.0.lock().changed = Instant::now();
    }

    pub(super) fn ended(&self, took: Duration) {
        let mut attempts = self.0.lock();
        let mean = attempts.took.map_or(took, |before| (before * 4 + took) / 5);
        if attempts.took.is_none()
            || mean > attempts.steady * 5 / 4
            || mean < attempts.steady * 4 / 5
        {
            attempts.steady = mean;
        }
        attempts.took = Some(mean);
        attempts.changed = Instant::now();
    }

    /// How long no attempt has started or ended.
    pub(super) fn idle(&self) -> Duration {
        self.0.lock().changed.elapsed()
    }

    /// The expected time between two starts, with `max` concurrent attempts.
    pub(super) fn interval(&self, max: usize) -> Duration {
        let attempts = self.0.lock();
        let quiet = attempts.changed.elapsed();
        // If nothing has ended for much longer than that, attempts now take longer.
        let took = if attempts.took.is_none() || quiet > attempts.steady * 2 {
            attempts.steady.max(quiet)
        } else {
            attempts.steady
        };
        let interval = took.as_secs_f64() / max as f64;
        Duration::from_secs_f64(interval.max(1e-6))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_starts_immediately_and_the_rest_at_the_steady_rate() {
        let turns = Turns::new(3, Duration::from_secs(3));
        let near = Duration::from_millis(100);
        for _ in 0..3 {
            assert_eq!(turns.take_within(near), Some(Duration::ZERO));
        }
        assert_eq!(turns.take_within(near), None);
        assert_eq!(turns.wait(), Duration::from_secs(1));
        tokio::time::advance(Duration::from_millis(950)).await;
        assert_eq!(turns.take_within(near), Some(Duration::from_millis(50)));
        assert_eq!(turns.take_within(near), None);
        assert_eq!(turns.wait(), Duration::from_millis(1050));
        turns.return_turn();
        assert_eq!(turns.wait(), Duration::from_millis(50));
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_follows_recent_attempts_and_slows_while_none_ends() {
        let pace = Pace::new();
        pace.ended(Duration::from_secs(4));
        assert_eq!(pace.interval(2), Duration::from_secs(2));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(pace.interval(2), Duration::from_secs(30));
    }
}
