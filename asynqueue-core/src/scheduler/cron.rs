//! Cron expressions: the next time one is due, including when clocks change.
//!
//! The `croner` crate finds the times. This module decides what happens to times that occur twice or never.

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, TimeZone};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

use super::{fault::Fault, fields::check_fields};

/// The times of a cron expression.
///
/// A fixed expression, without an asterisk in its second, minute and hour, names times of day. Each is due once: a
/// skipped time is due immediately after the gap, and a repeated time is due the first time. Any other expression is an
/// interval that follows the clock: skipped times are not due, and repeated times are due twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Calendar {
    cron: Cron,
    fixed: bool,
}

impl Calendar {
    pub(super) fn parse(expression: &str) -> Result<Self, Fault<'_>> {
        check_fields(expression)?;
        let parser = CronParser::builder()
            .seconds(Seconds::Optional)
            .year(Year::Disallowed)
            .build();
        let cron = parser
            .parse(expression)
            .map_err(|error| Fault::new(expression, error.to_string()))?;
        let times = [
            &cron.pattern.seconds,
            &cron.pattern.minutes,
            &cron.pattern.hours,
        ];
        let fixed = times.iter().all(|field| !field.from_wildcard);
        Ok(Self { cron, fixed })
    }

    /// The first time after `after`, in its zone; `None` if there is none up to the year 5000.
    pub(super) fn next_after(&self, after: &DateTime<Tz>) -> Option<DateTime<Tz>> {
        if self.fixed {
            self.next_fixed(after)
        } else {
            self.cron.find_next_occurrence(after, false).ok()
        }
    }

    /// `croner` treats only single times of day as fixed: of `30 2,14 * * *` it would skip one or repeat one. Therefore
    /// it computes local times without a zone, which never change.
    fn next_fixed(&self, after: &DateTime<Tz>) -> Option<DateTime<Tz>> {
        let mut clock = after.naive_local();
        loop {
            clock = self.cron.find_next_occurrence(&clock, false).ok()?;
            let time = first_instant(after.timezone(), clock)?;
            // False if the clock shows this time for the second time.
            if time > *after {
                return Some(time);
            }
        }
    }
}

/// When the clock of a zone first shows a time, or jumps past it.
fn first_instant(zone: Tz, clock: NaiveDateTime) -> Option<DateTime<Tz>> {
    match zone.from_local_datetime(&clock) {
        LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => Some(time),
        LocalResult::None => end_of_gap(zone, clock),
    }
}

/// When a clock jumps past `skipped`, which it never shows.
fn end_of_gap(zone: Tz, skipped: NaiveDateTime) -> Option<DateTime<Tz>> {
    // Clocks are less than a day from UTC, and have skipped at most a day (Apia, in 2011).
    let margin = TimeDelta::try_days(2)?.num_seconds();
    let is_past = |second: i64| {
        let time = zone.timestamp_opt(second, 0).single()?;
        Some(time.naive_local() > skipped)
    };
    let around = skipped.and_utc().timestamp();
    let (mut before, mut past) = (around - margin, around + margin);
    while past - before > 1 {
        let middle = before.midpoint(past);
        if is_past(middle)? {
            past = middle;
        } else {
            before = middle;
        }
    }
    zone.timestamp_opt(past, 0).single()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first times after `after`, as the zone's clock shows them.
    fn times(expression: &str, zone: Tz, after: &str, count: usize) -> Vec<String> {
        let calendar = Calendar::parse(expression).expect("a rule");
        let mut time = DateTime::parse_from_rfc3339(after)
            .expect("a time")
            .with_timezone(&zone);
        let next = || {
            time = calendar.next_after(&time)?;
            Some(time.to_string())
        };
        std::iter::from_fn(next).take(count).collect()
    }

    #[test]
    fn a_skipped_fixed_time_is_due_when_the_clock_jumps_forward() {
        for expression in ["30 2 * * *", "0 2 * * *", "10,30 2 * * *", "0-59 2 * * *"] {
            let times = times(expression, Tz::Europe__Berlin, "2026-03-28T12:00:00Z", 2);
            assert_eq!(times[0], "2026-03-29 03:00:00 CEST", "{expression}");
            assert!(times[1].starts_with("2026-03-30 02:"), "{times:?}");
        }
        // Three o'clock is due for two reasons, but only once.
        assert_eq!(
            times(
                "0 2,3,4 * * *",
                Tz::Europe__Berlin,
                "2026-03-28T23:00:00Z",
                2
            ),
            ["2026-03-29 03:00:00 CEST", "2026-03-29 04:00:00 CEST"]
        );
    }

    #[test]
    fn a_repeated_fixed_time_is_due_the_first_time() {
        assert_eq!(
            times("30 2 * * *", Tz::Europe__Berlin, "2026-10-24T12:00:00Z", 2),
            ["2026-10-25 02:30:00 CEST", "2026-10-26 02:30:00 CET"]
        );
        assert_eq!(
            times(
                "30 2,14 * * *",
                Tz::Europe__Berlin,
                "2026-10-24T22:00:00Z",
                3
            ),
            [
                "2026-10-25 02:30:00 CEST",
                "2026-10-25 14:30:00 CET",
                "2026-10-26 02:30:00 CET"
            ]
        );
        // Starts in the second 2:15, between the two times.
        assert_eq!(
            times(
                "30 2 * * *",
                Tz::Europe__Berlin,
                "2026-10-25T02:15:00+01:00",
                1
            ),
            ["2026-10-26 02:30:00 CET"]
        );
    }

    #[test]
    fn an_interval_continues_evenly_when_clocks_change() {
        assert_eq!(
            times(
                "*/30 * * * *",
                Tz::Europe__Berlin,
                "2026-03-29T00:29:59Z",
                3
            ),
            [
                "2026-03-29 01:30:00 CET",
                "2026-03-29 03:00:00 CEST",
                "2026-03-29 03:30:00 CEST"
            ]
        );
        assert_eq!(
            times(
                "*/30 * * * *",
                Tz::Europe__Berlin,
                "2026-10-24T23:59:59Z",
                5
            ),
            [
                "2026-10-25 02:00:00 CEST",
                "2026-10-25 02:30:00 CEST",
                "2026-10-25 02:00:00 CET",
                "2026-10-25 02:30:00 CET",
                "2026-10-25 03:00:00 CET"
            ]
        );
    }

    #[test]
    fn midnight_half_an_hour_or_a_full_day_can_be_skipped() {
        assert_eq!(
            times("0 0 * * *", Tz::America__Havana, "2026-03-07T12:00:00Z", 2),
            ["2026-03-08 01:00:00 CDT", "2026-03-09 00:00:00 CDT"]
        );
        assert_eq!(
            times(
                "15 2 * * *",
                Tz::Australia__Lord_Howe,
                "2026-10-03T00:00:00Z",
                1
            ),
            ["2026-10-04 02:30:00 +11"]
        );
        assert_eq!(
            times("0 9 * * *", Tz::Pacific__Apia, "2011-12-29T12:00:00Z", 3),
            [
                "2011-12-29 09:00:00 -10",
                "2011-12-31 00:00:00 +14",
                "2011-12-31 09:00:00 +14"
            ]
        );
    }

    #[test]
    fn each_day_of_a_year_has_its_fixed_time_once() {
        for zone in [
            Tz::Europe__Berlin,
            Tz::America__New_York,
            Tz::Africa__Casablanca,
            Tz::Asia__Tokyo,
        ] {
            for hour in 0..24 {
                let after = "2025-12-31T23:59:59";
                let start = after.parse::<NaiveDateTime>().expect("a time");
                let start = zone.from_local_datetime(&start).single().expect("a time");
                let calendar = Calendar::parse("30 H * * *".replace('H', &hour.to_string()).leak())
                    .expect("a rule");
                let next = |time: &DateTime<Tz>| calendar.next_after(time);
                let days: std::collections::BTreeSet<_> = std::iter::successors(next(&start), next)
                    .take(365)
                    .map(|time| time.date_naive())
                    .collect();
                assert_eq!(days.len(), 365, "{zone} {hour}");
            }
        }
    }

    #[test]
    fn clocks_still_change_in_future_years() {
        assert_eq!(
            times("0 12 1 7 *", Tz::Europe__Berlin, "2045-01-01T00:00:00Z", 1),
            ["2045-07-01 12:00:00 CEST"]
        );
    }
}
