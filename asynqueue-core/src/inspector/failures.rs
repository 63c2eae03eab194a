//! Failures by cause.

use super::Inspector;
use crate::{
    broker::{BrokerError, PointQuery, Series},
    failure::{Failures, Fingerprint},
    task::{Name, Timestamp},
};

impl Inspector {
    /// The failures in all queues by cause, from the minute, hour or day that includes a time. `series` is one of
    /// [`FailureMinutes`](Series::FailureMinutes), [`FailureHours`](Series::FailureHours) and
    /// [`FailureDays`](Series::FailureDays). Servers report every ten seconds.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn failures_since(
        &self,
        series: Series,
        since: Timestamp,
    ) -> Result<Failures, BrokerError> {
        let query = PointQuery::since(series, since);
        Ok(Failures::of_points(self.broker.points(&query).await?))
    }

    /// The failures of one cause in a queue, like [`failures_since`](Self::failures_since).
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn failures_of(
        &self,
        queue: &Name,
        cause: Fingerprint,
        series: Series,
        since: Timestamp,
    ) -> Result<Failures, BrokerError> {
        let mut query = PointQuery::since(series, since);
        query.only = Some((queue.clone(), Name::from(cause.to_string())));
        Ok(Failures::of_points(self.broker.points(&query).await?))
    }
}
