//! Durations in settings: `"30s"`, `"1h30m"`.
//!
//! The format is the same as in `#[task(…)]`. The macro crate has its own parser, because a procedural macro crate
//! cannot export it; a test keeps the two in sync.

/// The units with their milliseconds.
const UNITS: [(&str, u64); 6] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60 * 1_000),
    ("h", 3_600 * 1_000),
    ("d", 24 * 3_600 * 1_000),
    ("w", 7 * 24 * 3_600 * 1_000),
];

/// The milliseconds of one or more numbers, each followed by a unit.
///
/// # Errors
///
/// What is wrong with the text, and what was expected.
pub fn parse_millis(text: &str) -> Result<u64, String> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("expected a number with a unit, such as `30s`".into());
    }
    if text.contains(char::is_whitespace) {
        return Err("white space is not allowed; use a form such as `1h30m`".into());
    }
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let (part, after) = parse_part(rest)?;
        total = total
            .checked_add(part)
            .ok_or("it exceeds the maximum of 2^64 milliseconds")?;
        rest = after;
    }
    Ok(total)
}

/// Formats a duration as [`parse_millis`] reads it.
pub fn format_millis(mut millis: u64) -> String {
    let mut text = String::new();
    for (unit, length) in UNITS.into_iter().rev() {
        if millis >= length {
            text.push_str(&format!("{}{unit}", millis / length));
            millis %= length;
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

/// Parses the number and unit at the start of `text`. Returns their milliseconds and the remaining text.
fn parse_part(text: &str) -> Result<(u64, &str), String> {
    let (digits, rest) = split_at_first(text, |c| !c.is_ascii_digit());
    let (unit, after) = split_at_first(rest, |c| c.is_ascii_digit());
    match (digits, unit) {
        (_, "") => return Err(format!("`{digits}` has no unit; write `{digits}s`")),
        (_, "." | ",") => {
            return Err("fractions are not supported; write `1h30m` instead of `1.5h`".to_owned());
        }
        _ => {}
    }
    let (_, millis) = UNITS
        .into_iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| format!("unknown unit `{unit}`: expected ms, s, m, h, d or w"))?;
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(millis))
        .map(|part| (part, after))
        .ok_or_else(|| format!("`{digits}{unit}` exceeds the maximum of 2^64 milliseconds"))
}

fn split_at_first(text: &str, found: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(found).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_are_added_up() {
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("1m", 60_000),
            ("1h30m", 90 * 60_000),
            ("1m500ms", 60_500),
            ("1d", 86_400_000),
            ("2w1d", 15 * 86_400_000),
            ("0s", 0),
            ("007s", 7_000),
        ] {
            assert_eq!(parse_millis(text), Ok(millis), "{text}");
        }
    }

    #[test]
    fn an_invalid_duration_is_refused_with_the_expected_form() {
        for (text, part_of_the_reason) in [
            ("", "expected a number with a unit, such as `30s`"),
            ("30", "`30` has no unit; write `30s`"),
            ("1h30", "`30` has no unit; write `30s`"),
            ("thirty seconds", "expected a number with a unit"),
            ("s", "expected a number with a unit"),
            ("-5s", "expected a number with a unit"),
            ("5sec", "unknown unit `sec`: expected ms, s, m, h, d or w"),
            (
                "5 s",
                "white space is not allowed; use a form such as `1h30m`",
            ),
            ("1h 30m", "white space is not allowed"),
            ("5S", "unknown unit `S`"),
            ("1.5h", "fractions are not supported; write `1h30m`"),
            ("٣s", "expected a number with a unit"),
        ] {
            let reason = parse_millis(text).expect_err(text);
            assert!(reason.contains(part_of_the_reason), "{text}: {reason}");
        }
    }

    #[test]
    fn a_duration_that_overflows_is_refused() {
        for text in [
            "18446744073709551616ms",
            "18446744073709551615s",
            "18446744073709551615ms1ms",
        ] {
            let reason = parse_millis(text).expect_err(text);
            assert!(reason.contains("exceeds the maximum"), "{text}: {reason}");
        }
    }
}
