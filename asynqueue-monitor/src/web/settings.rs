//! What people set for themselves: a cookie of their browser, so that the monitor has nothing to keep.

use asynqueue_core::task::Timestamp;
use axum::http::{HeaderMap, header::COOKIE};
use chrono::DateTime;
use chrono_tz::Tz;

const COOKIE_NAME: &str = "asynqueue";

/// How the pages look and behave for one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) theme: Theme,
    /// Where times are shown in.
    pub(super) zone: Tz,
    /// Seconds between two looks at the figures; 0 for never.
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

/// The seconds to choose from.
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
    /// What was chosen in a form.
    ///
    /// # Errors
    ///
    /// A sentence about the first that is none of the choices.
    pub(super) fn chosen(theme: &str, zone: &str, refresh: &str) -> Result<Self, String> {
        let themes = || Theme::ALL.into_iter().find(|known| known.name() == theme);
        let seconds = || {
            REFRESH
                .into_iter()
                .find(|known| known.to_string() == refresh)
        };
        Ok(Self {
            theme: themes().ok_or(format!(
                "`{theme}` is no theme: expected system, light or dark"
            ))?,
            zone: zone.trim().parse().map_err(|_| {
                format!(
                    "`{zone}` is no time zone: expected a name of the IANA, such as Europe/Berlin"
                )
            })?,
            refresh: seconds().ok_or(format!(
                "`{refresh}` is no choice of seconds: expected one of {REFRESH:?}"
            ))?,
        })
    }

    /// What the cookie of a request says; the defaults without one that can be read.
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

    /// The header that lets a browser remember them for a year, below a path.
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

    /// A time in the zone; `None` where it is too far away for a date.
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
    fn settings_come_back_by_their_cookie() {
        let chosen = Settings::chosen("dark", " America/New_York", "0").expect("known");
        let cookie = chosen.cookie("/ops");
        let (pair, rest) = cookie.split_once(';').expect("attributes");
        assert!(rest.contains("Path=/ops;"), "{rest}");
        assert_eq!(of(&format!("other=1; {pair}")), chosen);
        assert_eq!(of("asynqueue=pink|UTC|1"), Settings::default());
        assert_eq!(of("asynqueue=pink"), Settings::default());
    }

    #[test]
    fn what_is_no_choice_is_named() {
        let refused = Settings::chosen("dark", "Mars/Olympus", "1");
        assert!(refused.expect_err("no zone").contains("`Mars/Olympus`"));
        let refused = Settings::chosen("dark", "UTC", "7");
        assert!(refused.expect_err("no choice").contains("`7`"));
    }

    #[test]
    fn times_are_in_the_zone() {
        let settings = Settings::chosen("system", "Asia/Tokyo", "1").expect("known");
        let date = settings.date(Timestamp::from_millis(0)).expect("a date");
        assert_eq!(date.to_rfc3339(), "1970-01-01T09:00:00+09:00");
        assert_eq!(settings.date(Timestamp::from_millis(u64::MAX)), None);
    }
}
