//! The audit: who changed what, and the times that a viewer asks about.

use std::time::Duration;

use asynqueue_core::{
    broker::BrokerError,
    inspector::{AuditEntry, AuditQuery, Inspector},
    task::{TaskRef, Timestamp},
};
use chrono::{Days, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
use chrono_tz::Tz;

/// How far changes are from the time that they are asked about.
pub(in crate::web) const AROUND: Duration = Duration::from_secs(600);

/// The most changes on the page of a task.
const OF_TASK: usize = 100;

/// A range of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::web) struct Range {
    pub(in crate::web) from: Timestamp,
    pub(in crate::web) until: Timestamp,
    /// The time in its middle, if it is around one.
    pub(in crate::web) around: Option<Timestamp>,
}

impl Range {
    /// A day such as `2026-11-27`, ten minutes before and after a time such as `14:05` of that day, or everything.
    /// Without a day, a time is that of the last 24 hours.
    ///
    /// # Errors
    ///
    /// The expected form of the day or the time.
    pub(in crate::web) fn parse(
        day: &str,
        at: &str,
        zone: Tz,
        now: Timestamp,
    ) -> Result<Self, String> {
        let date =
            match day.trim() {
                "" => None,
                day => Some(day.parse::<NaiveDate>().map_err(|_| {
                    format!("invalid day `{day}`: expected a date such as 2026-11-27")
                })?),
            };
        let time = match at.trim() {
            "" => None,
            at => Some(time(at)?),
        };
        Ok(match (date, time) {
            (_, Some(At::Moment(at))) => Self::around(at),
            (Some(date), Some(At::Clock(time))) => Self::around(in_zone(date.and_time(time), zone)),
            (None, Some(At::Clock(time))) => Self::around(last(time, zone, now)),
            (Some(date), None) => {
                let start = |date: NaiveDate| in_zone(date.and_time(NaiveTime::MIN), zone);
                let next = date.checked_add_days(Days::new(1));
                Self {
                    from: start(date),
                    until: next.map_or(Timestamp::MAX, start),
                    around: None,
                }
            }
            (None, None) => Self {
                from: Timestamp::default(),
                until: Timestamp::MAX,
                around: None,
            },
        })
    }

    fn around(at: Timestamp) -> Self {
        Self {
            from: at - AROUND,
            until: at + AROUND,
            around: Some(at),
        }
    }
}

enum At {
    Clock(NaiveTime),
    Moment(Timestamp),
}

fn time(at: &str) -> Result<At, String> {
    let clock = ["%H:%M", "%H:%M:%S"].into_iter();
    let clock = clock.filter_map(|form| NaiveTime::parse_from_str(at, form).ok());
    let clock = clock.map(At::Clock).next();
    let moment = || moment(at).ok().map(At::Moment);
    clock.or_else(moment).ok_or_else(|| {
        format!("invalid time `{at}`: expected one such as 14:05 or 2026-11-27T14:05:00Z")
    })
}

/// A time in RFC 3339 format.
pub(in crate::web) fn moment(text: &str) -> Result<Timestamp, String> {
    let parsed = chrono::DateTime::parse_from_rfc3339(text);
    let parsed = parsed.map_err(|_| {
        format!("invalid time `{text}`: expected RFC 3339, such as 2026-11-27T14:05:00Z")
    })?;
    Ok(stamp(parsed.timestamp_millis()))
}

/// Times before 1970 are those of its start.
fn stamp(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis.try_into().unwrap_or_default())
}

/// The earlier one of two equal times. A time that a change of the clocks skips is that of the zone without the change.
fn in_zone(time: NaiveDateTime, zone: Tz) -> Timestamp {
    let found = zone.from_local_datetime(&time).earliest();
    let utc = || time.and_utc().timestamp_millis();
    stamp(found.map_or_else(utc, |found| found.timestamp_millis()))
}

/// The last time that a clock in this zone showed this, or will show within ten minutes.
fn last(time: NaiveTime, zone: Tz, now: Timestamp) -> Timestamp {
    let millis = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let today = zone.timestamp_millis_opt(millis).earliest();
    let today = today.map(|now| now.date_naive()).unwrap_or_default();
    let at = in_zone(today.and_time(time), zone);
    match today.checked_sub_days(Days::new(1)) {
        Some(yesterday) if at > now + AROUND => in_zone(yesterday.and_time(time), zone),
        _ => at,
    }
}

/// The last changes of a task, newest first.
pub(in crate::web) async fn of_task(
    inspector: &Inspector,
    task: &TaskRef,
    enqueued: Timestamp,
) -> Result<Vec<AuditEntry>, BrokerError> {
    let mut query = AuditQuery::of_task(task.clone());
    // The clock of the producer may differ from that of the broker.
    query.from = enqueued - AROUND;
    query.limit = OF_TASK;
    Ok(inspector.audit(&query).await?.entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZONE: Tz = Tz::Europe__Berlin;

    fn at(text: &str) -> Timestamp {
        moment(text).expect("a time")
    }

    fn parse(day: &str, time: &str) -> Range {
        // 10:00 in Berlin.
        let now = at("2026-11-27T09:00:00Z");
        Range::parse(day, time, ZONE, now).expect("valid")
    }

    #[test]
    fn a_day_is_that_of_the_time_zone() {
        let day = parse("2026-11-26", "");
        assert_eq!(day.from, at("2026-11-25T23:00:00Z"));
        assert_eq!(day.until, at("2026-11-26T23:00:00Z"));
        assert_eq!(parse("", "").until, Timestamp::MAX);
        // Its clocks are set forward.
        let short = parse("2026-03-29", "");
        assert_eq!(
            short.until.since(short.from),
            Duration::from_secs(23 * 3_600)
        );
    }

    #[test]
    fn a_time_without_a_day_is_the_last_one() {
        let around = |day, time| parse(day, time).around;
        assert_eq!(around("", "09:55"), Some(at("2026-11-27T08:55:00Z")));
        assert_eq!(around("", "14:05"), Some(at("2026-11-26T13:05:00Z")));
        assert_eq!(
            around("2026-11-20", "14:05"),
            Some(at("2026-11-20T13:05:00Z"))
        );
        let exact = "2026-11-20T14:05:00Z";
        assert_eq!(around("", exact), Some(at(exact)));
        assert_eq!(parse("", exact).from, at("2026-11-20T13:55:00Z"));
        assert_eq!(
            around("2026-03-29", "02:30"),
            Some(at("2026-03-29T02:30:00Z"))
        );
    }

    #[test]
    fn invalid_times_are_named() {
        for (day, time) in [
            ("yesterday", ""),
            ("", "noon"),
            ("2026-13-01", ""),
            ("", "25:00"),
        ] {
            let invalid = Range::parse(day, time, ZONE, at("2026-11-27T09:00:00Z"));
            let invalid = invalid.expect_err("invalid");
            assert!(
                invalid.contains(&format!("`{}`", [day, time].concat())),
                "{invalid}"
            );
        }
    }
}
