//! Formatting of numbers, durations and times.

use std::time::Duration;

use asynqueue_core::task::Timestamp;
use chrono::{DateTime, SecondsFormat};

/// A duration in its two largest units: `1h 12m`, `340ms`.
pub(super) fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    if millis < 10_000 {
        return format!("{:.1}s", duration.as_secs_f64());
    }
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let (mut left, mut parts) = (duration.as_secs(), Vec::new());
    for (unit, seconds) in units {
        let count = left / seconds;
        if count > 0 || !parts.is_empty() {
            parts.push(format!("{count}{unit}"));
        }
        left %= seconds;
    }
    parts.truncate(2);
    parts.retain(|part| !part.starts_with('0'));
    parts.join(" ")
}

/// A measured time, in microseconds below a millisecond.
pub(super) fn time(time: Duration) -> String {
    match time.as_micros() {
        0 => "0".into(),
        micros @ 1..1_000 => format!("{micros}µs"),
        _ => duration(time),
    }
}

/// A number with thousands separated by narrow spaces.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A size in the largest unit in which it is at least 1.
pub(super) fn bytes(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if size < 1_024.0 {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{size:.1} {unit}")
            };
        }
        size /= 1_024.0;
    }
    format!("{size:.1} TB")
}

/// A latency, or a dash if no task is pending.
pub(super) fn wait(latency: Duration) -> String {
    if latency.is_zero() {
        "–".into()
    } else {
        duration(latency)
    }
}

/// A part of a total in percent, rounded down, so that only a complete one is 100 %.
pub(super) fn percent(done: u64, total: u64) -> String {
    match u128::from(done.min(total)) * 100 {
        _ if total == 0 => "–".into(),
        hundredfold => format!("{}\u{202f}%", hundredfold / u128::from(total)),
    }
}

/// Shortens a long text.
pub(super) fn cut(text: &str) -> String {
    const LENGTH: usize = 120;
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A time relative to now: `in 5s` or `5s ago`.
pub(super) fn distance(time: Timestamp, now: Timestamp) -> String {
    if time > now {
        format!("in {}", duration(time.since(now)))
    } else {
        format!("{} ago", duration(now.since(time)))
    }
}

/// A time in UTC in RFC 3339 format, or in milliseconds since 1970 if it is out of the range of dates.
pub(super) fn utc(time: Timestamp) -> String {
    let millis = time.as_millis();
    let date = i64::try_from(millis)
        .ok()
        .and_then(DateTime::from_timestamp_millis);
    date.map_or_else(
        || millis.to_string(),
        |date| date.to_rfc3339_opts(SecondsFormat::Millis, true),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted_for_people() {
        for (millis, expected) in [
            (0, "0ms"),
            (340, "340ms"),
            (1_500, "1.5s"),
            (59_000, "59s"),
            (3_600_000, "1h"),
            (4_320_000, "1h 12m"),
            (90_061_000, "1d 1h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), expected);
        }
        assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(percent(89, 610), "14\u{202f}%");
        assert_eq!(percent(609, 610), "99\u{202f}%");
        assert_eq!(percent(u64::MAX, u64::MAX), "100\u{202f}%");
        assert_eq!(
            (percent(7, 5), percent(0, 0)),
            ("100\u{202f}%".into(), "–".into())
        );
        assert_eq!((number(7), number(999)), ("7".into(), "999".into()));
        assert_eq!((bytes(12), bytes(1_536)), ("12 B".into(), "1.5 kB".into()));
    }

    #[test]
    fn times_are_in_utc() {
        let utc = |millis| utc(Timestamp::from_millis(millis));
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(utc(1_767_225_599_999), "2025-12-31T23:59:59.999Z");
        assert_eq!(utc(u64::MAX), "18446744073709551615");
    }
}
