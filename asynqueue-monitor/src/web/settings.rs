//! The settings of one viewer. They are stored in a cookie, so the monitor keeps no state.

use asynqueue_core::task::Timestamp;
use axum::http::{HeaderMap, header::COOKIE};
use chrono::DateTime;
use chrono_tz::Tz;

const COOKIE_NAME: &str = "asynqueue";

/// How pages look and behave for one viewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) theme: Theme,
    /// The time zone of all displayed times.
    pub(super) zone: Tz,
    /// Seconds between two updates of the numbers. 0 disables updates.
    pub(super) refresh: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Theme {
    System,
    Light,
    Dark,
}

impl Theme {
    pub(super) const ALL: [Self; 3] = [Self::System, Self::Light, Self::Dark];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// The choices for [`Settings::refresh`].
pub(super) const REFRESH: [u64; 5] = [1, 2, 5, 15, 0];

impl Default for Settings {
    fn default() -> Self {
        Self {
            theme: Theme::System,
            zone: Tz::UTC,
            refresh: REFRESH[0],
        }
    }
}

impl Settings {
    /// Parses the values of a form or a cookie.
    ///
    /// # Errors
    ///
    /// A message about the first invalid value.
    pub(super) fn chosen(theme: &str, zone: &str, refresh: &str) -> Result<Self, String> {
        let themes = || Theme::ALL.into_iter().find(|known| known.name() == theme);
        let seconds = || {
            REFRESH
                .into_iter()
                .find(|known| known.to_string() == refresh)
        };
        Ok(Self {
            theme: themes().ok_or(format!(
                "unknown theme `{theme}`: expected system, light or dark"
            ))?,
            zone: zone.trim().parse().map_err(|_| {
                format!("unknown time zone `{zone}`: expected an IANA name such as Europe/Berlin")
            })?,
            refresh: seconds().ok_or(format!(
                "invalid refresh interval `{refresh}`: expected one of {REFRESH:?} seconds"
            ))?,
        })
    }

    /// The settings in the cookie of a request. Defaults if it is missing or invalid.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let cookies = headers.get_all(COOKIE).into_iter();
        let mut pairs = cookies
            .filter_map(|cookies| cookies.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        let found = pairs.find(|(name, _)| *name == COOKIE_NAME);
        let parts = found.map(|(_, value)| value.split('|').collect::<Vec<_>>());
        match parts.as_deref() {
            Some([theme, zone, refresh]) => Self::chosen(theme, zone, refresh).unwrap_or_default(),
            _ => Self::default(),
        }
    }

    /// The `Set-Cookie` value that stores the settings for a year, below a path.
    pub(super) fn cookie(&self, path: &str) -> String {
        let Self {
            theme,
            zone,
            refresh,
        } = self;
        let path = if path.is_empty() { "/" } else { path };
        format!(
            "{COOKIE_NAME}={}|{zone}|{refresh}; Path={path}; Max-Age=31536000; SameSite=Strict; HttpOnly",
            theme.name()
        )
    }

    /// A time in the configured zone. `None` if it is out of the range of dates.
    pub(super) fn date(&self, time: Timestamp) -> Option<DateTime<Tz>> {
        let millis = i64::try_from(time.as_millis()).ok()?;
        Some(DateTime::from_timestamp_millis(millis)?.with_timezone(&self.zone))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of(cookie: &str) -> Settings {
        let value = HeaderValue::from_str(cookie).expect("a value");
        Settings::of(&HeaderMap::from_iter([(COOKIE, value)]))
    }

    #[test]
    fn settings_survive_the_round_trip_through_a_cookie() {
        let chosen = Settings::chosen("dark", " America/New_York", "0").expect("known");
        let cookie = chosen.cookie("/ops");
        let (pair, rest) = cookie.split_once(';').expect("attributes");
        assert!(rest.contains("Path=/ops;"), "{rest}");
        assert_eq!(of(&format!("other=1; {pair}")), chosen);
        assert_eq!(of("asynqueue=pink|UTC|1"), Settings::default());
        assert_eq!(of("asynqueue=pink"), Settings::default());
    }

    #[test]
    fn invalid_values_are_named() {
        let invalid = Settings::chosen("dark", "Mars/Olympus", "1");
        assert!(invalid.expect_err("no zone").contains("`Mars/Olympus`"));
        let invalid = Settings::chosen("dark", "UTC", "7");
        assert!(invalid.expect_err("no choice").contains("`7`"));
    }

    #[test]
    fn times_are_converted_to_the_zone() {
        let settings = Settings::chosen("system", "Asia/Tokyo", "1").expect("known");
        let date = settings.date(Timestamp::from_millis(0)).expect("a date");
        assert_eq!(date.to_rfc3339(), "1970-01-01T09:00:00+09:00");
        assert_eq!(settings.date(Timestamp::from_millis(u64::MAX)), None);
    }
}
