//! Waiting between tries of a broker that does not answer.

use std::time::Duration;

use crate::{broker::BrokerError, metrics};

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// Doubles the wait at each failure in a row, with a random part so that a fleet does not come back in step. Logs when
/// the broker goes and when it is back, and not in between.
#[derive(Debug)]
pub(crate) struct Retrying {
    doing: &'static str,
    failures: u32,
}

impl Retrying {
    pub(crate) fn new(doing: &'static str) -> Self {
        Self { doing, failures: 0 }
    }

    /// Notes that it worked.
    pub(crate) fn worked(&mut self) {
        if self.failures > 0 {
            tracing::info!(
                doing = self.doing,
                failures = self.failures,
                "the broker answers again"
            );
            self.failures = 0;
        }
    }

    /// Notes that it failed, and tells how long to wait.
    pub(crate) fn failed(&mut self, error: &BrokerError) -> Duration {
        metrics::broker_failed(self.doing);
        if self.failures == 0 {
            tracing::warn!(doing = self.doing, %error, "the broker does not answer; trying again");
        }
        let full = FIRST
            .saturating_mul(2_u32.saturating_pow(self.failures))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }
}
