//! Failures by cause.

use super::Inspector;
use crate::{broker::BrokerError, failure::Failures, task::Timestamp};

impl Inspector {
    /// The failures since a time, by cause, in all queues.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn failures_since(&self, _since: Timestamp) -> Result<Failures, BrokerError> {
        Ok(Failures::default())
    }
}
