//! Failures by cause.

use super::Inspector;
use crate::{
    broker::{BrokerError, PointQuery, Series},
    failure::{Cause, Failures, Fingerprint},
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

    /// The failures of one cause in all queues, like [`failures_since`](Self::failures_since). `None` if there are none.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn failures_of(
        &self,
        cause: Fingerprint,
        series: Series,
        since: Timestamp,
    ) -> Result<Option<Cause>, BrokerError> {
        let mut query = PointQuery::since(series, since);
        query.key = Some(Name::from(cause.to_string()));
        let found = Failures::of_points(self.broker.points(&query).await?);
        Ok(found.causes.into_iter().next())
    }
}
