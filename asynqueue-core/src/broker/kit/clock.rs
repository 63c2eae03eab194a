//! An estimate of a server's time, from its responses.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::sync::Mutex;

use crate::task::{Clock, SystemClock, Timestamp};

/// How long a sample counts: at most two windows, so that a small step back of the clock is followed too.
const WINDOW: Duration = Duration::from_secs(10);

/// A sample that is further behind than this comes from a clock that was set back.
const STEP: i64 = 1_000;

/// No sample yet.
const UNKNOWN: i64 = i64::MIN;

/// The clock of a database server, continued by a monotonic clock: a step of this machine's clock has no effect.
#[derive(Debug)]
pub struct ServerClock {
    base: Instant,
    /// Milliseconds from the base to the clock of the server.
    ahead: AtomicI64,
    samples: Mutex<Samples>,
}

/// The largest samples of this window and the previous one. Each response took time to arrive, so the largest sample is
/// the most accurate.
#[derive(Debug)]
struct Samples {
    since: Duration,
    current: i64,
    before: i64,
}

impl Default for ServerClock {
    fn default() -> Self {
        Self {
            base: Instant::now(),
            ahead: AtomicI64::new(UNKNOWN),
            samples: Mutex::new(Samples {
                since: Duration::ZERO,
                current: UNKNOWN,
                before: UNKNOWN,
            }),
        }
    }
}

impl ServerClock {
    /// The server's time. That of this machine until the first response.
    pub fn now(&self) -> Timestamp {
        match self.ahead.load(Relaxed) {
            UNKNOWN => SystemClock.now(),
            ahead => self.at(self.base.elapsed(), ahead),
        }
    }

    fn at(&self, elapsed: Duration, ahead: i64) -> Timestamp {
        let here = elapsed.as_millis() as u64;
        Timestamp::from_millis(here.saturating_add_signed(ahead))
    }

    /// Notes the time that the server has just reported.
    pub fn note(&self, now: Timestamp) {
        self.note_at(self.base.elapsed(), now);
    }

    fn note_at(&self, elapsed: Duration, now: Timestamp) {
        let sample = (now.as_millis() as i64).saturating_sub(elapsed.as_millis() as i64);
        let mut samples = self.samples.lock();
        samples.add(elapsed, sample);
        self.ahead
            .store(samples.current.max(samples.before), Relaxed);
    }
}

impl Samples {
    fn add(&mut self, elapsed: Duration, sample: i64) {
        let age = elapsed.saturating_sub(self.since);
        let known = self.current.max(self.before);
        if age >= 2 * WINDOW || known.saturating_sub(sample) > STEP {
            (self.since, self.before, self.current) = (elapsed, UNKNOWN, sample);
        } else if age >= WINDOW {
            (self.since, self.before, self.current) = (elapsed, self.current, sample);
        } else {
            self.current = self.current.max(sample);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_700_000_000_000;

    /// The clock after each sample: when it arrived, and the time that the server reported.
    fn after(samples: &[(u64, u64)]) -> Vec<u64> {
        let clock = ServerClock::default();
        let note = |(elapsed, now): &(u64, u64)| {
            let elapsed = Duration::from_millis(*elapsed);
            clock.note_at(elapsed, Timestamp::from_millis(START + now));
            let ahead = clock.ahead.load(Relaxed);
            clock.at(elapsed, ahead).as_millis() - START
        };
        samples.iter().map(note).collect()
    }

    #[test]
    fn the_fastest_response_counts() {
        assert_eq!(
            after(&[(0, 100), (50, 130), (60, 170), (90, 100)]),
            [100, 150, 170, 200]
        );
    }

    #[test]
    fn any_response_corrects_an_estimate_that_is_behind_or_far_ahead() {
        let hour = 3_600_000;
        let said = [(0, hour), (5, 2 * hour), (10, hour + 10)];
        assert_eq!(after(&said), [hour, 2 * hour, hour + 10]);
    }

    #[test]
    fn a_sample_counts_for_a_while_only() {
        let said = [
            (0, 1_000),
            (9_000, 9_500),
            (15_000, 15_500),
            (26_000, 26_500),
        ];
        assert_eq!(after(&said), [1_000, 10_000, 16_000, 26_500]);
    }
}
