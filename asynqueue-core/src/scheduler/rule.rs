//! When a schedule entry is due.

use std::{fmt, iter, str::FromStr, time::Duration};

use chrono_tz::Tz;

use super::{
    fault::{Fault, InvalidRule},
    when::When,
    zone::parse_zone,
};
use crate::task::Timestamp;

/// When a schedule entry is due: at calendar times in a time zone, or at regular intervals.
///
/// | Rule | Due |
/// |---|---|
/// | `30 2 * * *` | every day at 2:30 |
/// | `*/10 9-17 * * MON-FRI` | every ten minutes of office hours |
/// | `15 30 2 * * *` | every day at 2:30:15: with six fields, the first one is the second |
/// | `0 0 L * *`, `0 0 LW * *` | on the last day of each month; on its last working day |
/// | `0 0 * * 5#2`, `0 0 * * 5L` | on the second Friday of each month; on its last Friday |
/// | `0 0 1 * MON`, `0 0 1 * +MON` | on the first of each month *and* on each Monday; on the first only if it is a Monday |
/// | `@hourly`, `@daily` or `@midnight`, `@weekly` (Sunday), `@monthly`, `@yearly` or `@annually` | at the start of each period |
/// | `@every 1h30m` | every hour and a half |
/// | `TZ=Europe/Berlin 30 2 * * *` | at 2:30 in Berlin; `CRON_TZ=` is a synonym; the default is UTC |
///
/// `@every` ticks at the multiples of its interval since 1970 in UTC, regardless of the zone, so all schedulers agree
/// on the ticks no matter when they started. The interval is at least 1 s.
///
/// # When clocks change
///
/// A rule without `*` in its seconds, minutes and hours names fixed times, each due once a day. A time that is skipped
/// when clocks go forward is due at that moment: in such a night `30 2 * * *` is due when the clock jumps from 2:00 to
/// 3:00. A time that occurs twice when clocks go back is due the first time.
///
/// Any other rule follows the clock: `*/30 * * * *` is due every half hour of that night as well. Times in the skipped
/// hour are not due, and times in the repeated hour are due twice.
///
/// ```
/// use asynqueue_core::{scheduler::Rule, task::Timestamp};
///
/// let rule = Rule::parse("@every 30s")?;
/// let next = rule.next_after(Timestamp::from_millis(30_000));
/// assert_eq!(next, Some(Timestamp::from_millis(60_000)));
/// # Ok::<_, asynqueue_core::scheduler::InvalidRule>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Rule {
    /// The text that was parsed.
    text: String,
    zone: Tz,
    when: When,
}

impl Rule {
    /// Parses a rule.
    ///
    /// # Errors
    ///
    /// When the rule is invalid. The error contains the position and what was expected.
    pub fn parse(text: &str) -> Result<Self, InvalidRule> {
        let text = text.trim();
        parts(text)
            .and_then(|(zone, expression)| {
                Ok(Self {
                    text: text.to_owned(),
                    zone: zone.map_or(Ok(Tz::UTC), parse_zone)?,
                    when: When::parse(expression)?,
                })
            })
            .map_err(|fault| InvalidRule::new(text, fault))
    }

    /// The same rule in the time zone with an IANA name, such as `Europe/Berlin`.
    ///
    /// # Errors
    ///
    /// When the zone is unknown.
    pub fn with_zone(mut self, zone: &str) -> Result<Self, InvalidRule> {
        let (_, expression) =
            parts(&self.text).map_err(|fault| InvalidRule::new(&self.text, fault))?;
        let text = format!("TZ={zone} {expression}");
        let name = &text["TZ=".len()..][..zone.len()];
        self.zone = parse_zone(name).map_err(|fault| InvalidRule::new(&text, fault))?;
        self.text = text;
        Ok(self)
    }

    /// The name of the time zone, such as `Europe/Berlin`. `UTC` if the rule names none.
    pub fn zone(&self) -> &'static str {
        self.zone.name()
    }

    /// The first time after `after` at which it is due. `None` if there is none, for example for February 30.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.when.next_after(after, self.zone)
    }

    /// The times at which it is due after `after`, up to and including `until`. There can be very many: take a few.
    pub fn ticks_between(
        &self,
        after: Timestamp,
        until: Timestamp,
    ) -> impl Iterator<Item = Timestamp> + '_ {
        iter::successors(self.next_after(after), |&tick| self.next_after(tick))
            .take_while(move |tick| *tick <= until)
    }
}

impl Rule {
    /// The last times at which it is due from `first` up to and including `until`, oldest first, at most `max`.
    pub(super) fn last_until(
        &self,
        until: Timestamp,
        first: Timestamp,
        max: usize,
    ) -> Vec<Timestamp> {
        let before_first = first - Duration::from_millis(1);
        // Their distance is unknown, so search back in growing spans.
        let mut span = Duration::from_secs(60);
        loop {
            let from = (until - span).max(before_first);
            let mut ticks: Vec<_> = self.ticks_between(from, until).collect();
            if ticks.len() >= max || from == before_first {
                return ticks.split_off(ticks.len().saturating_sub(max));
            }
            span *= 4;
        }
    }
}

impl FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rule({:?})", self.text)
    }
}

/// The name of the zone, and the rest.
fn parts(text: &str) -> Result<(Option<&str>, &str), Fault<'_>> {
    let Some(zoned) = ["TZ=", "CRON_TZ="]
        .into_iter()
        .find_map(|prefix| text.strip_prefix(prefix))
    else {
        return Ok((None, text));
    };
    match zoned.split_once(char::is_whitespace) {
        Some((zone, rest)) => Ok((Some(zone), rest.trim_start())),
        None => Err(Fault::new(
            zoned,
            format!("expected a cron expression after the time zone `{text}`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use chrono::DateTime;

    use super::*;

    fn at(time: &str) -> Timestamp {
        let time = DateTime::parse_from_rfc3339(time).expect("a time");
        Timestamp::from_millis(time.timestamp_millis() as u64)
    }

    fn rule(text: &str) -> Rule {
        Rule::parse(text).expect(text)
    }

    fn refused(text: &str) -> String {
        Rule::parse(text).expect_err(text).to_string()
    }

    #[test]
    fn a_rule_is_next_due_by_its_expression() {
        for (text, after, next) in [
            (
                "0 12 * * *",
                "2026-11-23T11:59:59.999Z",
                "2026-11-23T12:00:00Z",
            ),
            ("0 12 * * *", "2026-11-23T12:00:00Z", "2026-11-24T12:00:00Z"),
            (
                "0 12 * * *",
                "2026-11-23T12:00:00.001Z",
                "2026-11-24T12:00:00Z",
            ),
            (
                "*/10 * * * * *",
                "2026-11-23T12:00:01Z",
                "2026-11-23T12:00:10Z",
            ),
            (
                "15 30 2 * * *",
                "2026-11-23T02:30:14.5Z",
                "2026-11-23T02:30:15Z",
            ),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 31 * *", "2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"),
            ("0 0 L * *", "2026-02-01T00:00:00Z", "2026-02-28T00:00:00Z"),
            (
                "0 0 * * 5#2",
                "2026-11-23T00:00:00Z",
                "2026-12-11T00:00:00Z",
            ),
            (
                "0 0 1 * +MON",
                "2026-11-23T00:00:00Z",
                "2027-02-01T00:00:00Z",
            ),
            (
                "TZ=America/New_York 0 20 * * *",
                "2026-11-24T00:00:00Z",
                "2026-11-24T01:00:00Z",
            ),
            (
                "CRON_TZ=Asia/Tokyo 0 8 * * *",
                "2026-11-23T22:00:00Z",
                "2026-11-23T23:00:00Z",
            ),
            (
                "TZ=Asia/Kolkata  @daily",
                "2026-11-23T00:00:00Z",
                "2026-11-23T18:30:00Z",
            ),
            ("@hourly", "2026-11-23T00:10:00Z", "2026-11-23T01:00:00Z"),
            ("@midnight", "2026-11-23T00:10:00Z", "2026-11-24T00:00:00Z"),
            ("@Weekly", "2026-11-23T00:00:00Z", "2026-11-29T00:00:00Z"),
            ("@monthly", "2026-11-23T00:00:00Z", "2026-12-01T00:00:00Z"),
            ("@yearly", "2026-11-23T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("@annually", "2026-11-23T00:00:00Z", "2027-01-01T00:00:00Z"),
        ] {
            assert_eq!(rule(text).next_after(at(after)), Some(at(next)), "{text}");
        }
    }

    #[test]
    fn an_interval_ticks_at_its_multiples_in_any_zone() {
        let next = |text: &str, after| {
            let next = rule(text).next_after(Timestamp::from_millis(after));
            next.map(Timestamp::as_millis)
        };
        assert_eq!(next("@every 30s", 29_999), Some(30_000));
        assert_eq!(next("@every 30s", 30_000), Some(60_000));
        assert_eq!(next("TZ=Asia/Kolkata @every 1h30m", 0), Some(5_400_000));
        assert_eq!(next("@every  1500ms", 1_500), Some(3_000));
        assert_eq!(next("@every 1s", u64::MAX), None);
    }

    #[test]
    fn a_rule_that_is_never_due_is_detected_quickly() {
        let start = Instant::now();
        assert_eq!(
            rule("0 0 30 2 *").next_after(at("2026-01-01T00:00:00Z")),
            None
        );
        assert_eq!(
            rule("* * * 30 2 *").next_after(at("2026-01-01T00:00:00Z")),
            None
        );
        assert_eq!(
            rule("* * * * *").next_after(Timestamp::from_millis(u64::MAX)),
            None
        );
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
    }

    #[test]
    fn the_ticks_of_a_span_end_with_it() {
        let (from, to) = (
            Timestamp::from_millis(30_000),
            Timestamp::from_millis(90_000),
        );
        let ticks = |text: &str| rule(text).ticks_between(from, to).collect::<Vec<_>>();
        assert_eq!(
            ticks("@every 30s"),
            [60_000, 90_000].map(Timestamp::from_millis)
        );
        assert_eq!(ticks("0 0 30 2 *"), []);
    }

    #[test]
    fn the_last_ticks_are_the_end_of_all_ticks() {
        let (first, until) = (at("2026-03-27T00:00:00Z"), at("2026-04-02T13:00:00Z"));
        for text in [
            "*/7 * * * *",
            "@every 25s",
            "TZ=Europe/Berlin 30 2 * * *",
            "0 0 1 * *",
        ] {
            let start = first - Duration::from_millis(1);
            let all: Vec<_> = rule(text).ticks_between(start, until).collect();
            let last: Vec<_> = all.iter().rev().take(5).rev().copied().collect();
            assert_eq!(rule(text).last_until(until, first, 5), last, "{text}");
            assert_eq!(rule(text).last_until(until, first, 100_000), all, "{text}");
        }
    }

    #[test]
    fn a_rule_is_displayed_as_it_was_parsed() {
        for text in ["0 2 * * MON", "@every 1h30m", "CRON_TZ=Asia/Tokyo  @daily"] {
            assert_eq!(rule(text).to_string(), text);
            assert_eq!(rule(&rule(text).to_string()), rule(text));
        }
        assert_eq!(rule("  @daily\n").to_string(), "@daily");
    }

    #[test]
    fn a_zone_can_be_set_and_replaced() {
        for text in ["0 2 * * *", "TZ=Asia/Tokyo 0 2 * * *"] {
            let moved = rule(text).with_zone("Europe/Berlin").expect("a zone");
            assert_eq!(moved, rule("TZ=Europe/Berlin 0 2 * * *"));
            assert_eq!(moved.zone(), "Europe/Berlin");
        }
        assert_eq!(rule("@daily").zone(), "UTC");
        for (zone, reason) in [
            ("Europe/Berln", "did you mean `Europe/Berlin`?"),
            ("UTC 0", "unknown time zone `UTC 0`: "),
        ] {
            let error = rule("0 2 * * *")
                .with_zone(zone)
                .expect_err(zone)
                .to_string();
            assert!(error.contains("at position 3"), "{error}");
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn an_invalid_rule_is_refused_with_position_and_fix() {
        for (text, message) in [
            (
                "0 25 * * *",
                "invalid rule `0 25 * * *`, at position 2: field 2 (hour): `25` is not in 0–23",
            ),
            ("TZ=UTC 0 25 * * *", "at position 9: field 2 (hour)"),
            ("* * * *", "at position 0: expected 5 fields"),
            ("", "found 0"),
            (
                "TZ=Europe/Berln @daily",
                "at position 3: unknown time zone `Europe/Berln`: did you mean `Europe/Berlin`?",
            ),
            (
                "TZ=Europe/Berlin",
                "expected a cron expression after the time zone `TZ=Europe/Berlin`",
            ),
            (
                "@dayly",
                "at position 0: unknown nickname `@dayly`: did you mean `@daily`?",
            ),
            (
                "@reboot",
                "expected one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly, @every",
            ),
            (
                "@daily 5",
                "at position 7: expected nothing after `@daily`, found `5`",
            ),
            ("@every", "at position 6: expected a duration"),
            (
                "@every 30",
                "at position 7: `30` is not a duration: `30` has no unit; write `30s`",
            ),
            ("@every 0s", "`0s` is too short: expected at least 1s"),
            ("@every 999ms", "`999ms` is too short"),
            ("@every 1h 30m", "white space is not allowed"),
        ] {
            let error = refused(text);
            assert!(error.contains(message), "{error}");
        }
    }
}
