//! The part of a rule after its time zone.

use chrono::TimeZone;
use chrono_tz::Tz;

use super::{cron::Calendar, fault::Fault};
use crate::{duration::parse_millis, suggest::closest, task::Timestamp};

/// When a rule is due.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum When {
    /// Boxed, because a parsed expression contains tables.
    Calendar(Box<Calendar>),
    /// At the multiples of this many milliseconds.
    Every(u64),
}

/// The nicknames and their cron expressions.
const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
const EVERY: &str = "@every";
/// The shortest interval, in milliseconds.
const SHORTEST: u64 = 1_000;

impl When {
    /// Parses a cron expression, a nickname or an interval.
    pub(super) fn parse(expression: &str) -> Result<Self, Fault<'_>> {
        if !expression.starts_with('@') {
            return Self::calendar(expression);
        }
        let end = expression
            .find(char::is_whitespace)
            .unwrap_or(expression.len());
        let (nickname, rest) = expression.split_at(end);
        let rest = rest.trim_start();
        let is_called = |name: &str| nickname.eq_ignore_ascii_case(name);
        if is_called(EVERY) {
            return parse_interval(rest).map(Self::Every);
        }
        let Some((_, meaning)) = NICKNAMES.into_iter().find(|(name, _)| is_called(name)) else {
            return Err(unknown_nickname(nickname));
        };
        if !rest.is_empty() {
            let reason = format!("expected nothing after `{nickname}`, found `{rest}`");
            return Err(Fault::new(rest, reason));
        }
        Self::calendar(meaning)
    }

    fn calendar(expression: &str) -> Result<Self, Fault<'_>> {
        Calendar::parse(expression).map(|calendar| Self::Calendar(Box::new(calendar)))
    }

    /// The first time after `after`, in a zone.
    pub(super) fn next_after(&self, after: Timestamp, zone: Tz) -> Option<Timestamp> {
        let millis = match self {
            Self::Every(millis) => (after.as_millis() / millis)
                .checked_add(1)?
                .checked_mul(*millis)?,
            Self::Calendar(calendar) => {
                let seconds = i64::try_from(after.as_millis() / 1_000).ok()?;
                let next = calendar.next_after(&zone.timestamp_opt(seconds, 0).single()?)?;
                u64::try_from(next.timestamp_millis()).ok()?
            }
        };
        Some(Timestamp::from_millis(millis))
    }
}

fn parse_interval(text: &str) -> Result<u64, Fault<'_>> {
    if text.is_empty() {
        let reason = "expected a duration after `@every`, such as `@every 30s`";
        return Err(Fault::new(text, reason));
    }
    match parse_millis(text) {
        Ok(millis) if millis < SHORTEST => Err(Fault::new(
            text,
            format!("`{text}` is too short: expected at least 1s"),
        )),
        Ok(millis) => Ok(millis),
        Err(reason) => Err(Fault::new(
            text,
            format!("`{text}` is not a duration: {reason}"),
        )),
    }
}

fn unknown_nickname(nickname: &str) -> Fault<'_> {
    let known = || NICKNAMES.into_iter().map(|(name, _)| name).chain([EVERY]);
    let advice = closest(nickname, known()).map_or_else(
        || format!("expected one of {}", known().collect::<Vec<_>>().join(", ")),
        |name| format!("did you mean `{name}`?"),
    );
    Fault::new(nickname, format!("unknown nickname `{nickname}`: {advice}"))
}
