//! When the tasks of a group become one task.

use std::time::Duration;

/// When the tasks of a group become one task: as soon as one of these limits is reached. The function that a server
/// registers with [`aggregate`](crate::server::ServerBuilder::aggregate) makes the new task.
///
/// ```
/// # use asynqueue_core::task::Aggregate;
/// let limits = Aggregate::default().max_size(500);
/// assert_eq!(limits.grace.as_secs(), 10);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Aggregate {
    /// How long to wait for another task after the last one. Default 10 s.
    pub grace: Duration,
    /// How long to wait after the first task at most. Default 1 minute.
    pub max_delay: Duration,
    /// How many tasks become one at most, up to [`Aggregate::MAX_SIZE`]. Default 100.
    pub max_size: usize,
}

impl Aggregate {
    /// The highest allowed [`max_size`](Self::max_size).
    pub const MAX_SIZE: usize = 1_000;

    /// A grace period of 10 s, a maximum delay of 1 minute, and a maximum size of 100 tasks.
    pub const DEFAULT: Self = Self {
        grace: Duration::from_secs(10),
        max_delay: Duration::from_secs(60),
        max_size: 100,
    };

    /// Sets how long to wait for another task after the last one. Default 10 s.
    #[must_use]
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets how long to wait after the first task at most. Default 1 minute.
    #[must_use]
    pub const fn max_delay(mut self, max_delay: Duration) -> Self {
        self.max_delay = max_delay;
        self
    }

    /// Sets how many tasks become one at most, up to [`Aggregate::MAX_SIZE`]. Default 100.
    #[must_use]
    pub const fn max_size(mut self, max_size: usize) -> Self {
        self.max_size = max_size;
        self
    }

    /// Checks the limits.
    ///
    /// # Errors
    ///
    /// When a limit is 0, the size is above [`Aggregate::MAX_SIZE`], or the grace period is longer than the maximum
    /// delay.
    pub fn check(&self) -> Result<(), InvalidAggregate> {
        let invalid = |limit, value, expected| {
            Err(InvalidAggregate {
                limit,
                value,
                expected,
            })
        };
        let millisecond = Duration::from_millis(1);
        if self.grace < millisecond {
            let expected = "expected at least 1ms";
            return invalid("grace", format!("{:?}", self.grace), expected);
        }
        if self.max_delay < self.grace {
            let expected = "expected at least the grace period";
            return invalid("max_delay", format!("{:?}", self.max_delay), expected);
        }
        if !(1..=Self::MAX_SIZE).contains(&self.max_size) {
            return invalid("max_size", self.max_size.to_string(), "expected 1 to 1000");
        }
        Ok(())
    }
}

impl Default for Aggregate {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The error for invalid limits of a group.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid aggregate: {limit} is {value}: {expected}")]
pub struct InvalidAggregate {
    limit: &'static str,
    value: String,
    expected: &'static str,
}

crate::debug_as_text!(InvalidAggregate);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_limits_are_refused_by_name() {
        let refused = |change: fn(&mut Aggregate)| {
            let mut limits = Aggregate::default();
            change(&mut limits);
            limits.check().expect_err("refused").to_string()
        };
        assert!(refused(|limits| limits.grace = Duration::ZERO).contains("grace is 0ns"));
        assert!(refused(|limits| limits.max_delay = Duration::ZERO).contains("max_delay is 0ns"));
        assert!(
            refused(|limits| limits.max_size = 0).contains("max_size is 0: expected 1 to 1000")
        );
        assert!(refused(|limits| limits.max_size = 1_001).contains("max_size is 1001"));
        assert_eq!(Aggregate::default().check(), Ok(()));
    }
}
