//! How a task is run: queue, retries, time limits, retention.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use super::{Aggregate, Name, Unique};

/// The default queue of tasks.
pub const DEFAULT_QUEUE: &str = "default";

/// The highest priority within a queue.
pub const MAX_PRIORITY: u8 = 9;

/// How tasks of a type are run. `#[derive(Task)]` builds it from `#[task(…)]`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TaskOptions {
    /// The queue to enqueue to. Default `default`.
    pub queue: Name,
    /// How many retries follow the first attempt before the task is archived. Default 25.
    pub max_retry: u32,
    /// How long one attempt may take. Default 30 minutes.
    pub timeout: Duration,
    /// How long after enqueueing the task must be done; it is archived otherwise. Default: no limit.
    pub deadline: Option<Duration>,
    /// How long to wait before each retry. Default [`Backoff::Standard`].
    pub backoff: Backoff,
    /// Whether and how long other tasks with the same key are refused. Default: they are not.
    pub unique: Option<Unique>,
    /// How long a completed task and its result are kept. Default: not at all.
    pub retention: Duration,
    /// The priority within the queue, from 0 to 9. Higher runs first. Default 0.
    pub priority: u8,
    /// The name of the group that the task belongs to. Default: none.
    pub group: Option<Name>,
    /// When the tasks of the same event and group become one task. Default: never.
    pub aggregate: Option<Aggregate>,
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self {
            queue: Name::from_static(DEFAULT_QUEUE),
            max_retry: 25,
            timeout: Duration::from_secs(30 * 60),
            deadline: None,
            backoff: Backoff::Standard,
            unique: None,
            retention: Duration::ZERO,
            priority: 0,
            group: None,
            aggregate: None,
        }
    }
}

impl TaskOptions {
    /// The shared default options.
    pub fn shared_default() -> Arc<Self> {
        static DEFAULT: LazyLock<Arc<TaskOptions>> = LazyLock::new(Arc::default);
        Arc::clone(&DEFAULT)
    }

    /// The default options with some changes, to return from [`Task::options`](super::Task::options).
    ///
    /// ```
    /// # use asynqueue_core::task::TaskOptions;
    /// let options = TaskOptions::shared(|options| options.max_retry = 3);
    /// assert_eq!(options.max_retry, 3);
    /// ```
    pub fn shared(change: impl FnOnce(&mut Self)) -> Arc<Self> {
        let mut options = Self::default();
        change(&mut options);
        Arc::new(options)
    }
}

/// How long to wait before a retry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backoff {
    /// n⁴ + 15 seconds plus a random part of 30·(n + 1) seconds, the formula of Sidekiq and asynq, where n counts
    /// failures from 0: 15–45 s after the first failure, about three weeks in total for 25 retries.
    #[default]
    Standard,
    /// The same wait each time.
    Fixed(Duration),
    /// Doubles each time from `base` up to `max`. A random part of up to half is subtracted, so that tasks that
    /// failed together are not retried together.
    Exponential {
        /// The wait after the first failure.
        base: Duration,
        /// The longest wait.
        max: Duration,
    },
}

impl Backoff {
    /// The wait after attempt `attempt` (from 1) has failed. `random` is in `0.0..1.0`.
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        // Sidekiq's and asynq's formulas count failures from 0.
        let n = attempt.saturating_sub(1);
        match *self {
            Self::Standard => {
                let n = f64::from(n);
                Duration::from_secs_f64(
                    (n.powi(4) + 15.0 + random * 30.0 * (n + 1.0)).min(MAX_STANDARD_SECS),
                )
            }
            Self::Fixed(delay) => delay,
            Self::Exponential { base, max } => {
                let full = base.saturating_mul(2_u32.saturating_pow(n)).min(max);
                full.mul_f64(0.5 + random / 2.0)
            }
        }
    }
}

/// One year. Beyond it the standard formula is meaningless and could overflow.
const MAX_STANDARD_SECS: f64 = 365.0 * 24.0 * 3600.0;

/// The error for an invalid backoff.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid backoff: base {base:?} is longer than max {max:?}; swap them")]
pub struct InvalidBackoff {
    base: Duration,
    max: Duration,
}

crate::debug_as_text!(InvalidBackoff);

impl Backoff {
    /// A backoff that doubles from `base` up to `max`.
    ///
    /// # Errors
    ///
    /// When `base` is longer than `max`.
    pub fn exponential(base: Duration, max: Duration) -> Result<Self, InvalidBackoff> {
        if base > max {
            Err(InvalidBackoff { base, max })
        } else {
            Ok(Self::Exponential { base, max })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_backoff_is_the_published_formula() {
        assert_eq!(Backoff::Standard.delay(1, 0.0), Duration::from_secs(15));
        assert_eq!(
            Backoff::Standard.delay(3, 0.5),
            Duration::from_secs(16 + 15 + 45)
        );
        assert!(
            Backoff::Standard.delay(u32::MAX, 1.0) <= Duration::from_secs_f64(MAX_STANDARD_SECS)
        );
    }

    #[test]
    fn an_exponential_backoff_doubles_up_to_its_maximum_with_half_of_it_random() {
        let backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(60))
            .expect("base < max");
        assert_eq!(backoff.delay(1, 0.0), Duration::from_millis(500));
        assert_eq!(backoff.delay(4, 0.0), Duration::from_secs(4));
        assert_eq!(backoff.delay(500, 0.0), Duration::from_secs(30));
        assert!(Backoff::exponential(Duration::from_secs(2), Duration::from_secs(1)).is_err());
    }
}
