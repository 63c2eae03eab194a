//! The spans of time that statistics are shown for.

use std::{fmt, str::FromStr, time::Duration};

use crate::broker::Series;

/// A span of time that ends now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Span {
    /// 15 minutes.
    QuarterHour,
    /// An hour.
    #[default]
    Hour,
    /// Six hours.
    SixHours,
    /// 24 hours.
    Day,
    /// Seven days.
    Week,
    /// 90 days.
    Quarter,
}

impl Span {
    /// All of them, from short to long.
    pub const ALL: [Self; 6] = [
        Self::QuarterHour,
        Self::Hour,
        Self::SixHours,
        Self::Day,
        Self::Week,
        Self::Quarter,
    ];

    /// Its name in addresses, such as `15m`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QuarterHour => "15m",
            Self::Hour => "1h",
            Self::SixHours => "6h",
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Quarter => "90d",
        }
    }

    /// Its length.
    pub fn length(self) -> Duration {
        let minutes = match self {
            Self::QuarterHour => 15,
            Self::Hour => 60,
            Self::SixHours => 6 * 60,
            Self::Day => 24 * 60,
            Self::Week => 7 * 24 * 60,
            Self::Quarter => 90 * 24 * 60,
        };
        Duration::from_secs(minutes * 60)
    }

    /// The series with the fewest points that shows the sums of all keys of this span.
    pub(crate) fn of_sums(self, [minutes, hours, days]: [Series; 3]) -> Series {
        match self {
            Self::QuarterHour | Self::Hour => minutes,
            Self::SixHours | Self::Day => hours,
            Self::Week | Self::Quarter => days,
        }
    }

    /// The series that shows the course of one key over this span.
    pub(crate) fn of_course(self, [minutes, hours, days]: [Series; 3]) -> Series {
        match self {
            Self::QuarterHour | Self::Hour | Self::SixHours => minutes,
            Self::Day | Self::Week => hours,
            Self::Quarter => days,
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not the name of a [`Span`].
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown span `{0}`: use `15m`, `1h`, `6h`, `24h`, `7d` or `90d`")]
pub struct InvalidSpan(String);

crate::debug_as_text!(InvalidSpan);

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(name: &str) -> Result<Self, InvalidSpan> {
        let named = Self::ALL.into_iter().find(|span| span.as_str() == name);
        named.ok_or_else(|| InvalidSpan(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_parsed_from_its_name() {
        for span in Span::ALL {
            assert_eq!(span.to_string().parse(), Ok(span));
        }
        let error = "2h".parse::<Span>().expect_err("unknown");
        assert!(error.to_string().contains("unknown span `2h`: use `15m`"));
    }

    /// Otherwise a chart would have a gap at its start.
    #[test]
    fn the_series_of_a_span_are_kept_for_as_long() {
        let series = [Series::EventMinutes, Series::EventHours, Series::EventDays];
        for span in Span::ALL {
            for one in [span.of_sums(series), span.of_course(series)] {
                assert!(one.kept() >= span.length(), "{span}");
            }
        }
    }
}
