//! How fast turns come: by the clock, or as tasks end.

use std::time::Duration;

use tokio::time::Instant;

use crate::sync::Mutex;

/// Turns at a steady rate after a burst: the generic cell rate algorithm, as in ATM networks and GCRA limiters since.
#[derive(Debug)]
pub(super) struct Turns {
    /// Between two starts at the steady rate.
    interval: Duration,
    /// How far ahead of the steady rate starts may be.
    burst: Duration,
    /// When the next start would be due at the steady rate.
    next: Mutex<Option<Instant>>,
}

/// Keeps the sum of now and a period in range. No program runs for longer.
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

    /// Takes the next turn if it is within `limit`, and returns how long it is until then.
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

    /// Gives back a turn that was not used.
    pub(super) fn give_back(&self) {
        let mut next = self.next.lock();
        *next = next.and_then(|next| next.checked_sub(self.interval));
    }

    /// How long it is until the next turn.
    pub(super) fn wait(&self) -> Duration {
        let next = *self.next.lock();
        next.map_or(Duration::ZERO, |next| {
            let until = next.saturating_duration_since(Instant::now());
            until.saturating_sub(self.burst)
        })
    }

    /// For how long there has been a turn to take.
    pub(super) fn idle(&self) -> Duration {
        let next = *self.next.lock();
        // With no turn taken so far, there is none to wait for either.
        let since = next.map(|next| next.checked_sub(self.burst));
        since
            .flatten()
            .map_or(Duration::MAX, |since| since.elapsed())
    }
}

/// How long attempts take, where the next begins as one ends.
#[derive(Debug)]
pub(super) struct Pace(Mutex<Attempts>);

#[derive(Debug)]
struct Attempts {
    /// How long recent ones took, once one has ended.
    took: Option<Duration>,
    /// The same, changed only when it is well off: tasks that wait by one pace stay in their order.
    steady: Duration,
    /// When one began or ended last.
    changed: Instant,
}

/// How long an attempt is assumed to last until one has ended: short, since a task that comes back too early only comes again.
const AT_FIRST: Duration = Duration::from_millis(10);

impl Pace {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Attempts {
            took: None,
            steady: AT_FIRST,
            changed: Instant::now(),
        }))
    }

    pub(super) fn began(&self) {
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

    /// For how long nothing has begun or ended.
    pub(super) fn idle(&self) -> Duration {
        self.0.lock().changed.elapsed()
    }

    /// How long it takes from one start to the next, with `max` at once.
    pub(super) fn interval(&self, max: usize) -> Duration {
        let attempts = self.0.lock();
        let quiet = attempts.changed.elapsed();
        // Where nothing has ended for much longer than that, it takes longer.
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
    async fn a_burst_starts_at_once_and_the_rest_at_the_steady_rate() {
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
        turns.give_back();
        assert_eq!(turns.wait(), Duration::from_millis(50));
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_is_that_of_late_and_slower_while_nothing_ends() {
        let pace = Pace::new();
        pace.ended(Duration::from_secs(4));
        assert_eq!(pace.interval(2), Duration::from_secs(2));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(pace.interval(2), Duration::from_secs(30));
    }
}
