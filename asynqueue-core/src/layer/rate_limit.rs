//! At most so many in a time.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tower::Layer;

use super::{BoxProcess, TaskService};
use crate::process::TaskError;

/// Starts at most `max` attempts in each `period`, in this process.
///
/// A burst of `max` starts at once, then one each `period / max` (the generic cell rate algorithm, as in ATM networks
/// and GCRA limiters since). An attempt whose turn is near waits for it; one whose turn is far goes back to the broker
/// until then, which frees its slot and counts no attempt.
#[derive(Clone, Debug)]
pub struct RateLimitLayer {
    cells: Arc<Cells>,
}

impl RateLimitLayer {
    /// At most `max` attempts, at least one, in each `period`. A period of zero is no limit.
    pub fn new(max: u32, period: Duration) -> Self {
        let period = period.min(LONGEST);
        let interval = period / max.max(1);
        let cells = Cells {
            interval,
            burst: period - interval,
            next: Mutex::new(None),
        };
        Self {
            cells: Arc::new(cells),
        }
    }
}

/// Keeps the sum of now and a period in range. No program runs for longer.
const LONGEST: Duration = Duration::from_secs(1_000 * 365 * 24 * 3600);

/// An attempt whose turn is within this waits in its slot.
const WORTH_WAITING: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Cells {
    /// Between two starts at the steady rate.
    interval: Duration,
    /// How far ahead of the steady rate starts may be.
    burst: Duration,
    /// When the next start would be due at the steady rate.
    next: Mutex<Option<Instant>>,
}

impl Cells {
    /// Takes a turn that is now or near and returns how long it is until then, or fails with how far the next is.
    fn take(&self) -> Result<Duration, Duration> {
        let now = Instant::now();
        let mut next = self.next.lock();
        let due = next.unwrap_or(now).max(now);
        let wait = (due - now).saturating_sub(self.burst);
        if wait > WORTH_WAITING {
            return Err(wait);
        }
        *next = Some(due + self.interval);
        Ok(wait)
    }
}

impl<S: TaskService> Layer<S> for RateLimitLayer {
    type Service = BoxProcess;

    fn layer(&self, inner: S) -> BoxProcess {
        let (inner, cells) = (inner.boxed(), Arc::clone(&self.cells));
        BoxProcess::from_fn(move |request| {
            let (inner, turn) = (inner.clone(), cells.take());
            Box::pin(async move {
                match turn {
                    Ok(Duration::ZERO) => {}
                    Ok(wait) => tokio::time::sleep(wait).await,
                    // Spread, so that a whole backlog does not come back at the same moment.
                    Err(wait) => {
                        return Err(TaskError::snooze(wait.mul_f64(1.0 + rand::random::<f64>())));
                    }
                }
                inner.run(request).await
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_starts_at_once_and_the_rest_at_the_steady_rate() {
        let layer = RateLimitLayer::new(3, Duration::from_secs(3));
        for _ in 0..3 {
            assert_eq!(layer.cells.take(), Ok(Duration::ZERO));
        }
        assert_eq!(layer.cells.take(), Err(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_millis(950)).await;
        assert_eq!(layer.cells.take(), Ok(Duration::from_millis(50)));
        assert_eq!(layer.cells.take(), Err(Duration::from_millis(1050)));
    }
}
