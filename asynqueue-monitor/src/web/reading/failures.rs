//! Failures by cause.

use asynqueue_core::{
    broker::{BrokerError, Series},
    failure::{Cause, Failed, Failures, Fingerprint},
    inspector::Inspector,
    task::{Name, Timestamp},
};

use super::history::{A_DAY, first_hour};
use crate::web::attention::SPAN;

/// The failures of the last day, with those of the last minutes.
#[derive(Debug)]
pub(in crate::web) struct Recent {
    /// The causes of the last 24 hours, those of the most recent failures first.
    pub(in crate::web) causes: Vec<Row>,
    /// The attempts that were lost with their worker in the last 24 hours, by queue.
    pub(in crate::web) lost: Vec<(Name, u64)>,
}

/// A cause of the last 24 hours.
#[derive(Debug)]
pub(in crate::web) struct Row {
    /// Its failures by the hour.
    pub(in crate::web) cause: Cause,
    /// Its failures in the last [`SPAN`].
    pub(in crate::web) now: Failed,
}

impl Recent {
    pub(in crate::web) async fn read(inspector: &Inspector) -> Result<Self, BrokerError> {
        let now = inspector.now();
        let (day, minutes) = tokio::try_join!(
            inspector.failures_since(Series::FailureHours, first_hour(now, A_DAY)),
            inspector.failures_since(Series::FailureMinutes, now - SPAN),
        )?;
        let lost = day.queues.iter().filter(|(_, ended)| ended.lost > 0);
        let lost = lost.map(|(queue, ended)| (queue.clone(), ended.lost));
        Ok(Self {
            lost: lost.collect(),
            causes: rows(day, &minutes),
        })
    }
}

fn rows(day: Failures, minutes: &Failures) -> Vec<Row> {
    let now = |fingerprint| {
        let found = minutes
            .causes
            .iter()
            .find(|cause| cause.fingerprint == fingerprint);
        found.map(Cause::failed).unwrap_or_default()
    };
    let row = |cause: Cause| Row {
        now: now(cause.fingerprint),
        cause,
    };
    let mut rows: Vec<_> = day.causes.into_iter().map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.now.failed, row.cause.failed().failed)));
    rows
}

impl Row {
    /// The failures since a time, in full hours.
    pub(in crate::web) fn since(&self, start: Timestamp) -> u64 {
        self.cause
            .series
            .range(start..)
            .map(|(_, count)| count)
            .sum()
    }
}

/// The failures of one cause by the day, as long as they are kept. `None` if it is unknown.
pub(in crate::web) async fn of_cause(
    inspector: &Inspector,
    cause: Fingerprint,
) -> Result<Option<Cause>, BrokerError> {
    let (series, since) = (Series::FailureDays, Timestamp::default());
    inspector.failures_of(cause, series, since).await
}
