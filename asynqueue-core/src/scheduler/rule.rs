//! When an entry is due: cron patterns, nicknames and intervals.

use std::{fmt, str::FromStr};

use chrono::{DateTime, TimeZone};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Year},
};

use crate::{duration::parse_millis, task::Timestamp};

/// When a schedule entry is due.
///
/// | rule | due |
/// |---|---|
/// | `30 3 * * *` | minute, hour, day of the month, month, day of the week: each day at 3:30 |
/// | `*/10 * * * * *` | with six fields the first one is seconds: every 10 s |
/// | `@hourly`, `@daily` or `@midnight`, `@weekly`, `@monthly`, `@yearly` or `@annually` | when one begins |
/// | `@every 90s` | at whole multiples of that time since 1970, so that all schedulers agree on them; at least 1 s |
/// | `TZ=Europe/Berlin 0 9 * * MON-FRI` | by the clocks of a time zone, named as IANA does; UTC without |
///
/// Patterns are read by [croner](https://docs.rs/croner), which also knows `L`, `W`, `#` and names of days and months. When
/// clocks change, a fixed time that is left out is due right after the gap, and one that comes twice is due the first time;
/// patterns with `*` or steps go by the clock on the wall.
///
/// ```
/// use asynqueue_core::{Timestamp, scheduler::Rule};
///
/// let rule: Rule = "TZ=Europe/Berlin 0 9 * * MON-FRI".parse()?;
/// let friday_evening = Timestamp::from_millis(1_767_978_000_000); // 2026-01-09 17:00 UTC
/// let monday_at_nine = Timestamp::from_millis(1_768_204_800_000); // 2026-01-12 08:00 UTC
/// assert_eq!(rule.next_after(friday_evening), Some(monday_at_nine));
/// # Ok::<(), asynqueue_core::scheduler::InvalidRule>(())
/// ```
#[derive(Clone)]
pub struct Rule {
    text: String,
    ticks: Ticks,
}

#[derive(Clone)]
enum Ticks {
    /// In milliseconds.
    Every(u64),
    Cron(Box<Cron>, Tz),
}

const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

const FIELDS: [&str; 6] = [
    "second",
    "minute",
    "hour",
    "day of the month",
    "month",
    "day of the week",
];

const SHORTEST: u64 = 1_000;

impl Rule {
    /// The first tick after a time; `None` if there is none in the next centuries.
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.ticks {
            Ticks::Every(length) => {
                let ticks = time.as_millis() / length + 1;
                Some(Timestamp::from_millis(ticks.checked_mul(*length)?))
            }
            Ticks::Cron(cron, zone) => {
                let start = local(time, zone)?;
                timestamp(&cron.find_next_occurrence(&start, false).ok()?)
            }
        }
    }

    /// The last ticks up to a time and not before `first`, oldest first: `max` of them at most.
    pub fn last_until(&self, time: Timestamp, first: Timestamp, max: usize) -> Vec<Timestamp> {
        let mut ticks = Vec::new();
        let mut before = time + std::time::Duration::from_millis(1);
        while ticks.len() < max {
            match self.last_before(before).filter(|tick| *tick >= first) {
                Some(tick) => ticks.push(tick),
                None => break,
            }
            before = ticks.last().copied().unwrap_or_default();
        }
        ticks.reverse();
        ticks
    }

    fn last_before(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.ticks {
            Ticks::Every(length) => {
                let ticks = time.as_millis().checked_sub(1)? / length;
                Some(Timestamp::from_millis(ticks * length))
            }
            Ticks::Cron(cron, zone) => {
                // From the whole second before, since ticks are at whole seconds.
                let second = time.as_millis().checked_sub(1)? / 1_000;
                let start = local(Timestamp::from_millis(second * 1_000), zone)?;
                timestamp(&cron.find_previous_occurrence(&start, true).ok()?)
            }
        }
    }

    /// The same rule, by the clocks of another time zone.
    ///
    /// # Errors
    ///
    /// When there is no such zone.
    pub fn in_zone(&self, zone: &str) -> Result<Self, InvalidRule> {
        let (_, rule) = split_zone(&self.text);
        format!("TZ={zone} {rule}").parse()
    }

    /// The rule as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn local(time: Timestamp, zone: &Tz) -> Option<DateTime<Tz>> {
    let millis = i64::try_from(time.as_millis()).ok()?;
    zone.timestamp_millis_opt(millis).single()
}

fn timestamp(time: &DateTime<Tz>) -> Option<Timestamp> {
    let millis = u64::try_from(time.timestamp_millis()).ok()?;
    Some(Timestamp::from_millis(millis))
}

/// A text that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid rule `{rule}`: {problem}")]
pub struct InvalidRule {
    /// The rule as given.
    pub rule: String,
    problem: String,
}

/// The zone that a rule begins with, if any, and the rest.
fn split_zone(text: &str) -> (Option<&str>, &str) {
    let text = text.trim();
    let zone = ["TZ=", "CRON_TZ="]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix));
    match zone {
        None => (None, text),
        Some(rest) => {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            (Some(&rest[..end]), rest[end..].trim_start())
        }
    }
}

impl FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let (zone, rule) = split_zone(text);
        let invalid = |problem| InvalidRule {
            rule: text.to_owned(),
            problem,
        };
        let zone = zone.map_or(Ok(Tz::UTC), read_zone).map_err(invalid)?;
        let ticks = match rule.strip_prefix("@every") {
            Some(length) => read_interval(length.trim()).map(Ticks::Every),
            None => read_cron(text, rule).map(|cron| Ticks::Cron(Box::new(cron), zone)),
        };
        Ok(Self {
            text: text.trim().to_owned(),
            ticks: ticks.map_err(invalid)?,
        })
    }
}

fn read_zone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| {
        let folded = name.to_lowercase();
        let city = folded.rsplit('/').next().unwrap_or(&folded);
        let is_like = |zone: &&Tz| {
            let known = zone.name().to_lowercase();
            known == folded || known.rsplit('/').next() == Some(city)
        };
        let hint = chrono_tz::TZ_VARIANTS.iter().find(is_like);
        let hint = hint.map_or_else(String::new, |zone| format!("; did you mean `{zone}`?"));
        format!("`{name}` is no time zone: write an IANA name such as `Europe/Berlin`{hint}")
    })
}

fn read_interval(length: &str) -> Result<u64, String> {
    if length.is_empty() {
        return Err("`@every` needs a time, such as `@every 30s`".into());
    }
    let millis = parse_millis(length).map_err(|problem| format!("`{length}`: {problem}"))?;
    if millis < SHORTEST {
        return Err(format!(
            "`{length}` is too short: an interval has at least 1s"
        ));
    }
    Ok(millis)
}

fn read_cron(text: &str, rule: &str) -> Result<Cron, String> {
    let pattern = if rule.starts_with('@') {
        let known = NICKNAMES.into_iter().find(|(name, _)| *name == rule);
        let (_, pattern) = known.ok_or_else(|| {
            let names: Vec<_> = NICKNAMES.iter().map(|(name, _)| *name).collect();
            format!(
                "`{rule}` is not known: there are {} and `@every 30s`",
                names.join(", ")
            )
        })?;
        pattern
    } else {
        rule
    };
    let fields: Vec<_> = pattern.split_whitespace().collect();
    let names = match fields.len() {
        5 => &FIELDS[1..],
        6 => &FIELDS[..],
        count => {
            return Err(format!(
                "it has {count} fields, and a pattern has 5 (minute, hour, day of the month, month, day of the week) \
                 or 6 (second before them)"
            ));
        }
    };
    let parser = CronParser::builder().year(Year::Disallowed).build();
    parser.parse(pattern).map_err(|error| {
        let fault = (0..fields.len()).find(|at| {
            let mut alone = vec!["*"; fields.len()];
            alone[*at] = fields[*at];
            parser.parse(&alone.join(" ")).is_err()
        });
        match fault {
            None => error.to_string(),
            Some(at) => {
                let offset = fields[at].as_ptr() as usize - pattern.as_ptr() as usize;
                let position =
                    text.len() - rule.len() - (text.len() - text.trim_end().len()) + offset;
                format!(
                    "field {} ({}), `{}` at character {}: {error}",
                    at + 1,
                    names[at],
                    fields[at],
                    position + 1
                )
            }
        }
    })
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Rule {}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Timestamp {
        let time = DateTime::parse_from_rfc3339(time).expect("a time");
        Timestamp::from_millis(time.timestamp_millis() as u64)
    }

    fn show(tick: Timestamp) -> String {
        let time = DateTime::from_timestamp_millis(tick.as_millis() as i64).expect("a time");
        format!("{:?}", time.naive_utc()) + "Z"
    }

    fn ticks(rule: &str, after: &str, count: usize) -> Vec<String> {
        let rule: Rule = rule.parse().expect("a rule");
        let mut tick = at(after);
        let mut ticks = Vec::new();
        for _ in 0..count {
            tick = rule.next_after(tick).expect("a tick");
            ticks.push(show(tick));
        }
        ticks
    }

    #[test]
    fn patterns_of_five_and_six_fields_nicknames_and_intervals_tick() {
        let start = "2026-01-31T23:59:30.500Z";
        assert_eq!(
            ticks("0 3 * * *", start, 2),
            ["2026-02-01T03:00:00Z", "2026-02-02T03:00:00Z"]
        );
        assert_eq!(
            ticks("*/20 * * * * *", start, 3),
            [
                "2026-01-31T23:59:40Z",
                "2026-02-01T00:00:00Z",
                "2026-02-01T00:00:20Z"
            ]
        );
        assert_eq!(
            ticks("@monthly", start, 2),
            ["2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"]
        );
        assert_eq!(
            ticks("@every 90s", start, 2),
            ["2026-02-01T00:00:00Z", "2026-02-01T00:01:30Z"]
        );
        assert_eq!(ticks("0 0 29 2 *", start, 1), ["2028-02-29T00:00:00Z"]);
        assert_eq!(
            ticks("0 0 31 * *", start, 2),
            ["2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"]
        );
        assert_eq!(ticks("0 12 * * MON#1", start, 1), ["2026-02-02T12:00:00Z"]);
    }

    #[test]
    fn a_rule_goes_by_the_clocks_of_its_zone() {
        let start = "2026-06-01T00:00:00Z";
        assert_eq!(
            ticks("TZ=Europe/Berlin 0 9 * * *", start, 1),
            ["2026-06-01T07:00:00Z"]
        );
        assert_eq!(
            ticks("CRON_TZ=America/New_York 0 9 * * *", start, 1),
            ["2026-06-01T13:00:00Z"]
        );
        assert_eq!(
            ticks("TZ=Asia/Kolkata 0 9 * * *", start, 1),
            ["2026-06-01T03:30:00Z"]
        );
        let moved: Rule = "0 9 * * *".parse().expect("a rule");
        let moved = moved.in_zone("Asia/Tokyo").expect("a zone");
        assert_eq!(moved.as_str(), "TZ=Asia/Tokyo 0 9 * * *");
    }

    /// 2:00 to 3:00 on 29 March 2026 is left out in Berlin.
    #[test]
    fn a_fixed_time_that_clocks_leave_out_is_due_right_after_the_gap() {
        assert_eq!(
            ticks("TZ=Europe/Berlin 30 2 * * *", "2026-03-28T12:00:00Z", 2),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        assert_eq!(
            ticks("TZ=Europe/Berlin */30 * * * *", "2026-03-29T00:15:00Z", 3),
            [
                "2026-03-29T00:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-29T01:30:00Z"
            ]
        );
    }

    /// 2:00 to 3:00 on 25 October 2026 comes twice in Berlin.
    #[test]
    fn a_fixed_time_that_comes_twice_is_due_once_and_steps_go_on() {
        assert_eq!(
            ticks("TZ=Europe/Berlin 30 2 * * *", "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        assert_eq!(
            ticks("TZ=Europe/Berlin */30 * * * *", "2026-10-25T00:00:00Z", 4),
            [
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T01:30:00Z",
                "2026-10-25T02:00:00Z"
            ]
        );
    }

    #[test]
    fn a_rule_that_never_comes_true_has_no_tick() {
        let never: Rule = "0 0 30 2 *".parse().expect("a rule");
        assert_eq!(never.next_after(at("2026-01-01T00:00:00Z")), None);
    }

    #[test]
    fn the_last_ticks_are_those_that_a_walk_would_meet() {
        for rule in [
            "*/7 * * * *",
            "@every 25s",
            "TZ=Europe/Berlin 30 2 * * *",
            "0 0 1 * *",
        ] {
            let parsed: Rule = rule.parse().expect("a rule");
            let (start, end) = (at("2026-03-27T00:00:00Z"), at("2026-04-02T13:00:00Z"));
            let first = parsed.next_after(start).expect("a tick");
            let mut walked = vec![first];
            while let Some(next) = parsed
                .next_after(walked[walked.len() - 1])
                .filter(|t| *t <= end)
            {
                walked.push(next);
            }
            let last: Vec<_> = walked.iter().rev().take(5).rev().copied().collect();
            assert_eq!(parsed.last_until(end, first, 5), last, "{rule}");
            assert_eq!(parsed.last_until(end, first, 100_000), walked, "{rule}");
        }
    }

    #[test]
    fn a_fault_is_named_with_its_place() {
        let refused = |rule: &str| rule.parse::<Rule>().expect_err(rule).to_string();
        let message = refused("0 25 * * *");
        assert!(
            message.contains("`0 25 * * *`")
                && message.contains("field 2 (hour), `25` at character 3"),
            "{message}"
        );
        let message = refused("TZ=Europe/Berlin 0 0 * * * FUN");
        assert!(
            message.contains("field 6 (day of the week), `FUN` at character 28"),
            "{message}"
        );
        assert!(refused("* * * *").contains("it has 4 fields"));
        assert!(refused("* * * * * * *").contains("it has 7 fields"));
        assert!(refused("").contains("it has 0 fields"));
        assert!(refused("@dayly").contains("`@dayly` is not known: there are @yearly"));
        assert!(refused("@every").contains("`@every` needs a time"));
        assert!(refused("@every soon").contains("`soon`"));
        assert!(refused("@every 10ms").contains("at least 1s"));
        assert!(refused("@every 0s").contains("at least 1s"));
        let message = refused("TZ=berlin 0 0 * * *");
        assert!(
            message.contains("`berlin` is no time zone")
                && message.contains("did you mean `Europe/Berlin`?"),
            "{message}"
        );
    }
}
