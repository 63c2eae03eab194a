//! How figures are written.

use std::time::Duration;

use asynqueue_core::Timestamp;
use maud::{Markup, html};

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

/// A number with a space after each thousand.
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

/// Bytes, in the largest unit that leaves a whole number before the point.
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

/// A time as the distance from now, with the time itself for who points at it.
pub(super) fn time(time: Timestamp, now: Timestamp) -> Markup {
    let text = if time > now {
        format!("in {}", duration(time.since(now)))
    } else {
        format!("{} ago", duration(now.since(time)))
    };
    let iso = utc(time);
    html! { time datetime=(iso) title=(iso) { (text) } }
}

/// A time in UTC, as RFC 3339 has it.
pub(super) fn utc(time: Timestamp) -> String {
    let (days, millis) = (time.as_millis() / 86_400_000, time.as_millis() % 86_400_000);
    let (year, month, day) = civil(days);
    let (seconds, millis) = (millis / 1_000, millis % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The date so many days after 1970, by Howard Hinnant's `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_for_people() {
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
        assert_eq!((number(7), number(999)), ("7".into(), "999".into()));
        assert_eq!((bytes(12), bytes(1_536)), ("12 B".into(), "1.5 kB".into()));
    }

    #[test]
    fn times_are_in_utc() {
        let utc = |millis| utc(Timestamp::from_millis(millis));
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(utc(1_767_225_599_999), "2025-12-31T23:59:59.999Z");
    }
}
