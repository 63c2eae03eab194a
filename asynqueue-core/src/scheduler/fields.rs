//! Checks the fields of a cron expression.
//!
//! The parser crate reports what is wrong but not where, and misreads some expressions.

use super::fault::Fault;

/// The allowed values of a field.
struct Field {
    name: &'static str,
    min: u16,
    max: u16,
    /// Names of the values, from the lowest.
    names: &'static [&'static str],
    days: Days,
}

/// Which forms a field supports for days that depend on the month.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Days {
    None,
    /// `L`, `LW` and `15W`.
    OfMonth,
    /// `5#2`, `5#L`, `5L` and `+5`.
    OfWeek,
}

const MONTHS: &[&str] = &[
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const WEEKDAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const FIELDS: [Field; 6] = [
    Field::numbers("second", 0, 59),
    Field::numbers("minute", 0, 59),
    Field::numbers("hour", 0, 23),
    Field {
        days: Days::OfMonth,
        ..Field::numbers("day of month", 1, 31)
    },
    Field {
        names: MONTHS,
        ..Field::numbers("month", 1, 12)
    },
    Field {
        names: WEEKDAYS,
        days: Days::OfWeek,
        ..Field::numbers("day of week", 0, 7)
    },
];

/// Checks the fields of an expression, with or without seconds.
///
/// # Errors
///
/// The invalid part, with its field.
pub(super) fn check_fields(expression: &str) -> Result<(), Fault<'_>> {
    let texts: Vec<_> = expression.split_whitespace().collect();
    let fields = match texts.len() {
        5 => &FIELDS[1..],
        6 => &FIELDS[..],
        count => {
            let reason = format!(
                "expected 5 fields (minute, hour, day of month, month, day of week) or 6 (second first), found {count}"
            );
            return Err(Fault::new(expression, reason));
        }
    };
    for (index, (field, text)) in fields.iter().zip(texts).enumerate() {
        field.check(text).map_err(|fault| Fault {
            part: fault.part,
            reason: format!("field {} ({}): {}", index + 1, field.name, fault.reason),
        })?;
    }
    Ok(())
}

impl Field {
    const fn numbers(name: &'static str, min: u16, max: u16) -> Self {
        Self {
            name,
            min,
            max,
            names: &[],
            days: Days::None,
        }
    }

    fn check<'t>(&self, text: &'t str) -> Result<(), Fault<'t>> {
        if text == "*" || (text == "?" && self.days != Days::None) {
            return Ok(());
        }
        let list = match (self.days, text.strip_prefix('+')) {
            (Days::OfWeek, Some(list)) => list,
            _ => text,
        };
        list.split(',').try_for_each(|item| self.check_item(item))
    }

    fn check_item<'t>(&self, item: &'t str) -> Result<(), Fault<'t>> {
        match item {
            "" => Err(Fault::new(
                item,
                "a value is missing: write a list as `1,2,3`",
            )),
            "*" => Err(Fault::new(
                item,
                "`*` means all values and must be alone in its field",
            )),
            _ => match item.split_once('/') {
                Some((range, step)) => self.check_step(range, step),
                None => self.check_days(item),
            },
        }
    }

    fn check_step<'t>(&self, range: &'t str, step: &'t str) -> Result<(), Fault<'t>> {
        if number(step).is_none_or(|step| step == 0) {
            let reason = format!("`{step}` is not a step: expected a number of at least 1");
            return Err(Fault::new(step, reason));
        }
        match range {
            "*" => Ok(()),
            _ if range.contains('-') => self.check_range(range),
            _ => {
                let reason = format!(
                    "`{range}` before a step is not a range: write `*/{step}` or `{}-{}/{step}`",
                    number(range).unwrap_or(self.min),
                    self.max
                );
                Err(Fault::new(range, reason))
            }
        }
    }

    /// Checks an item without a step: values, ranges, and days that depend on the month.
    fn check_days<'t>(&self, item: &'t str) -> Result<(), Fault<'t>> {
        let upper = item.to_ascii_uppercase();
        match self.days {
            Days::OfMonth if matches!(upper.as_str(), "L" | "LW") => Ok(()),
            Days::OfMonth if upper.ends_with('W') => self.check_value(&item[..item.len() - 1]),
            Days::OfWeek if upper == "L" => Err(Fault::new(
                item,
                "`L` requires a day: write `5L` for the last Friday of the month",
            )),
            Days::OfWeek if item.contains('#') => self.check_nth(item),
            Days::OfWeek if upper.ends_with('L') => self.check_value(&item[..item.len() - 1]),
            _ => self.check_range(item),
        }
    }

    /// Checks `5#2` and `MON-FRI#L`.
    fn check_nth<'t>(&self, item: &'t str) -> Result<(), Fault<'t>> {
        let (days, nth) = item.split_once('#').unwrap_or((item, ""));
        let is_nth = nth.eq_ignore_ascii_case("L") || matches!(number(nth), Some(1..=5));
        if !is_nth {
            let reason = format!("`{nth}` after `#` is invalid: expected 1–5, or `L` for the last");
            return Err(Fault::new(nth, reason));
        }
        self.check_range(days)
    }

    /// Checks a value, or two separated by a dash.
    fn check_range<'t>(&self, range: &'t str) -> Result<(), Fault<'t>> {
        let Some((first, last)) = range.split_once('-') else {
            return self.check_value(range);
        };
        self.check_value(first)?;
        self.check_value(last)?;
        let (from, to) = (self.value(first), self.value(last));
        // At the end of a range, Sunday is day 7.
        let to = to.map(|day| match day {
            0 if self.days == Days::OfWeek && last.eq_ignore_ascii_case("SUN") => 7,
            _ => day,
        });
        if from > to {
            let reason = format!(
                "`{range}` runs backwards: write it as two ranges, `{first}-{},{}-{last}`",
                self.max, self.min
            );
            return Err(Fault::new(range, reason));
        }
        Ok(())
    }

    fn check_value<'t>(&self, text: &'t str) -> Result<(), Fault<'t>> {
        if self.value(text).is_some() {
            return Ok(());
        }
        let names = match self.names {
            [first, .., last] => format!(" or {first}–{last}"),
            _ => String::new(),
        };
        let reason = format!("`{text}` is not in {}–{}{names}", self.min, self.max);
        Err(Fault::new(text, reason))
    }

    fn value(&self, text: &str) -> Option<u16> {
        let by_name = || {
            let name = self.names.iter().zip(self.min..);
            name.into_iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(text))
                .map(|(_, value)| value)
        };
        number(text)
            .filter(|value| (self.min..=self.max).contains(value))
            .or_else(by_name)
    }
}

/// Parses only digits; the standard parser also accepts a sign.
fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use croner::Cron;

    use super::*;

    #[test]
    fn every_accepted_expression_is_a_cron_expression() {
        for expression in [
            "* * * * *",
            "*/15 0-23/2 1,15 JAN-mar,12 mon-FRI",
            "59 23 31 12 7",
            "0 0 L * ?",
            "0 0 LW * *",
            "0 0 15w,1 * *",
            "0 0 ? * 5#2,6#L,0L",
            "0 0 * * MON-FRI#1",
            "0 0 1 * +MON",
            "0 0 * * FRI-SUN",
            "0 0 * * SUN-TUE",
            "*/10 05 4 * * *",
            "1-5/2,30 * * * * *",
        ] {
            check_fields(expression).expect(expression);
            expression.parse::<Cron>().expect(expression);
        }
    }

    #[test]
    fn an_invalid_field_is_named_with_its_invalid_part() {
        for (expression, part, reason) in [
            ("0 25 * * *", "25", "field 2 (hour): `25` is not in 0–23"),
            (
                "60 * * * * *",
                "60",
                "field 1 (second): `60` is not in 0–59",
            ),
            (
                "* 60 * * * *",
                "60",
                "field 2 (minute): `60` is not in 0–59",
            ),
            (
                "0 0 0 * *",
                "0",
                "field 3 (day of month): `0` is not in 1–31",
            ),
            ("0 0 * FOO *", "FOO", "`FOO` is not in 1–12 or JAN–DEC"),
            ("0 0 * * 8", "8", "`8` is not in 0–7 or SUN–SAT"),
            ("0 MON * * *", "MON", "field 2 (hour): `MON` is not in 0–23"),
            ("0 0 * * MONDAY", "MONDAY", "`MONDAY` is not in 0–7"),
            (
                "0 22-2 * * *",
                "22-2",
                "write it as two ranges, `22-23,0-2`",
            ),
            ("5/10 * * * *", "5", "write `*/10` or `5-59/10`"),
            ("*/0 * * * *", "0", "`0` is not a step"),
            ("*/x * * * *", "x", "`x` is not a step"),
            ("1,,2 * * * *", "", "a value is missing"),
            (", * * * *", "", "a value is missing"),
            ("*,5 * * * *", "*", "must be alone"),
            ("+5 * * * *", "+5", "`+5` is not in 0–59"),
            ("? * * * *", "?", "`?` is not in 0–59"),
            ("0 L * * *", "L", "field 2 (hour): `L` is not in 0–23"),
            ("0 0 32W * *", "32", "`32` is not in 1–31"),
            ("0 0 * * L", "L", "write `5L`"),
            ("0 0 * * 5#6", "6", "`6` after `#` is invalid: expected 1–5"),
            ("0 0 5#2 * *", "5#2", "`5#2` is not in 1–31"),
            ("ä * * * *", "ä", "`ä` is not in 0–59"),
        ] {
            let fault = check_fields(expression).expect_err(expression);
            assert_eq!(fault.part, part, "{expression}: {}", fault.reason);
            assert!(
                fault.reason.contains(reason),
                "{expression}: {}",
                fault.reason
            );
        }
    }

    #[test]
    fn a_wrong_number_of_fields_is_reported_with_the_expected_ones() {
        for (expression, reason) in [
            ("", "found 0"),
            ("5", "found 1"),
            ("* * * *", "found 4"),
            ("* * * * * * 2026", "found 7"),
        ] {
            let fault = check_fields(expression).expect_err(expression);
            assert!(fault.reason.contains(reason), "{}", fault.reason);
        }
    }
}
