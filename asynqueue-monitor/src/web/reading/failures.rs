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
    /// Its failures by the hour. The last one is dated to the minute if it is within the last [`SPAN`].
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
    let row = |mut cause: Cause| {
        let mut recent = minutes.causes.iter();
        let recent = recent.find(|recent| recent.fingerprint == cause.fingerprint);
        // The hour that has begun dates the last failure to its start, which may be an hour ago.
        cause.last = recent.map_or(cause.last, |recent| cause.last.max(recent.last));
        Row {
            now: recent.map(Cause::failed).unwrap_or_default(),
            cause,
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use asynqueue_core::task::FailureKind;

    use super::*;

    /// Otherwise a cause that fails now would be shown as one that last failed an hour ago.
    #[test]
    fn the_last_failure_of_a_row_is_dated_to_the_minute() {
        let hour = Timestamp::from_millis(3_600_000);
        let minute = hour + Duration::from_secs(50 * 60);
        let at = |time| {
            let cause = Cause::new("card:charge".into(), FailureKind::Error, "no");
            let mut failures = Failures::default();
            let cause = cause.with(&"payments".into(), Failed::new(3, 0), time);
            failures.causes.push(cause);
            failures
        };
        let last = |minutes: &Failures| rows(at(hour), minutes)[0].cause.last;
        assert_eq!(last(&at(minute)), minute);
        assert_eq!(last(&Failures::default()), hour);
    }
}
