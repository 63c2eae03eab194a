//! Backoff and log lines for calls to a broker that is not responding.

use std::time::Duration;

use crate::{ambient, broker::BrokerError, metrics, task::Name};

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// The maximum number of queues named in a log line.
const NAMED: usize = 10;

/// Doubles the wait at each consecutive failure, with jitter so that a fleet does not retry in step. Logs the first
/// failure and the recovery, and nothing in between.
#[derive(Debug)]
pub(crate) struct Retrying {
    doing: &'static str,
    failures: u32,
}

impl Retrying {
    pub(crate) fn new(doing: &'static str) -> Self {
        Self { doing, failures: 0 }
    }

    /// Whether the last call failed.
    pub(super) fn fails(&self) -> bool {
        self.failures > 0
    }

    /// Records a success.
    pub(crate) fn worked(&mut self) {
        if self.failures > 0 {
            tracing::info!(
                doing = self.doing,
                failures = self.failures,
                "the broker is responding again"
            );
            self.failures = 0;
        }
    }

    /// Records a success for a queue.
    pub(crate) fn worked_for(&mut self, queue: &Name) {
        if self.failures > 0 {
            let failures = std::mem::take(&mut self.failures);
            tracing::info!(doing = self.doing, %queue, failures, "queue `{queue}`: the broker is responding again");
        }
    }

    /// Records a failure. Returns how long to wait.
    pub(crate) fn failed(&mut self, error: &BrokerError) -> Duration {
        if self.failures == 0 {
            tracing::warn!(doing = self.doing, %error, "the broker is not responding; retrying");
        }
        self.wait()
    }

    /// Records a failure for a queue. Returns how long to wait.
    pub(crate) fn failed_for(&mut self, queue: &Name, error: &BrokerError) -> Duration {
        if self.failures == 0 {
            log_failed(self.doing, std::slice::from_ref(queue), error);
        }
        self.wait()
    }

    /// Counts one more failure. Returns how long to wait.
    pub(super) fn wait(&mut self) -> Duration {
        metrics::broker_failed(self.doing);
        let full = FIRST
            .saturating_mul(2_u32.saturating_pow(self.failures))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(0.5 + ambient::random::<f64>() / 2.0)
    }
}

/// Logs that queues have started to fail, in one line for all that failed together.
pub(super) fn log_failed(doing: &'static str, queues: &[Name], error: &BrokerError) {
    match queues {
        [] => {}
        [queue] => {
            tracing::warn!(doing, %queue, %error, "queue `{queue}`: the broker is not responding; retrying");
        }
        queues => {
            let named = &queues[..queues.len().min(NAMED)];
            tracing::warn!(doing, count = queues.len(), ?named, %error, "the broker is not responding; retrying");
        }
    }
}
