//! Sessions of browsers. A session begins with a login by the form and ends with a log-out, which HTTP Basic
//! authentication does not have.
//!
//! They are in the memory of the process: they end with it, and another process does not know them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use axum::http::{
    HeaderMap, HeaderValue, Uri,
    header::{COOKIE, HOST, ORIGIN},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::User;

/// The maximum number of sessions. A further one ends the one that was unused for longest.
const MOST: usize = 1_000;

/// A session ends when it is unused for this time.
const IDLE: Duration = Duration::from_secs(12 * 3600);

/// A session ends after this time at the latest.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// All sessions, by the hash of their token, so that the memory contains no token.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<[u8; 32], Session>>);

#[derive(Debug)]
struct Session {
    user: User,
    opened: Instant,
    used: Instant,
    end: SessionEnd,
}

/// Cancelled when a session ends. It also marks the requests of a session.
#[derive(Clone, Debug)]
pub(crate) struct SessionEnd(pub(crate) CancellationToken);

impl Sessions {
    /// Begins a session. Returns its token. `None` if the system has no randomness.
    pub(super) fn open(&self, user: User) -> Option<String> {
        let mut token = [0; 32];
        getrandom::fill(&mut token).ok()?;
        let token = URL_SAFE_NO_PAD.encode(token);
        let now = Instant::now();
        let session = Session {
            user,
            opened: now,
            used: now,
            end: SessionEnd(CancellationToken::new()),
        };
        let mut sessions = self.0.lock();
        sessions.retain(|_, session| session.is_open(now));
        if sessions.len() >= MOST {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.used);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                sessions.remove(&key);
            }
        }
        sessions.insert(hash(&token), session);
        Some(token)
    }

    /// The user of a session.
    pub(super) fn user(&self, token: &str) -> Option<(User, SessionEnd)> {
        let mut sessions = self.0.lock();
        let (key, now) = (hash(token), Instant::now());
        let session = sessions.get_mut(&key)?;
        if !session.is_open(now) {
            sessions.remove(&key);
            return None;
        }
        session.used = now;
        Some((session.user.clone(), session.end.clone()))
    }

    /// Ends a session. Returns its user.
    pub(super) fn close(&self, token: &str) -> Option<User> {
        let closed = self.0.lock().remove(&hash(token))?;
        Some(closed.user.clone())
    }
}

impl Session {
    fn is_open(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) < IDLE
            && now.saturating_duration_since(self.opened) < LONGEST
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end.0.cancel();
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// The cookie of a session.
#[derive(Clone, Debug)]
pub(super) struct Cookie {
    name: String,
    /// Whether browsers may send it by HTTPS only.
    secure: bool,
    /// The token in the request.
    pub(super) token: Option<String>,
}

impl Cookie {
    pub(super) fn of(headers: &HeaderMap, uri: &Uri) -> Self {
        let name = name(headers);
        let cookies = headers.get_all(COOKIE).into_iter();
        let token = cookies
            .filter_map(|cookies| cookies.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(known, _)| *known == name)
            .map(|(_, token)| token.to_owned());
        Self {
            secure: is_secure(headers, uri),
            name,
            token,
        }
    }

    /// Stores a token in the browser, below a path.
    pub(super) fn set(&self, token: &str, path: &str) -> Option<HeaderValue> {
        self.header(token, path, LONGEST.as_secs())
    }

    /// Removes the token from the browser.
    pub(super) fn remove(&self, path: &str) -> Option<HeaderValue> {
        self.header("", path, 0)
    }

    fn header(&self, token: &str, path: &str, age: u64) -> Option<HeaderValue> {
        let path = if path.is_empty() { "/" } else { path };
        let secure = if self.secure { "; Secure" } else { "" };
        let name = &self.name;
        let cookie = format!(
            "{name}={token}; Path={path}; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"
        );
        cookie.parse().ok()
    }
}

/// The name contains the port, because browsers send a cookie to every port of a host. Without it, two monitors on one
/// host would end each other's sessions.
fn name(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let port = host.and_then(|host| host.rsplit_once(':'));
    match port.filter(|(_, port)| port.parse::<u16>().is_ok()) {
        Some((_, port)) => format!("asynqueue-session-{port}"),
        None => "asynqueue-session".to_owned(),
    }
}

/// Whether the browser uses HTTPS. A header that a client invents makes its own cookie stricter and nothing else, so no
/// proxy has to be trusted.
fn is_secure(headers: &HeaderMap, uri: &Uri) -> bool {
    let starts = |name: &str, start: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.trim_start().to_ascii_lowercase().starts_with(start))
    };
    uri.scheme_str() == Some("https")
        || starts(ORIGIN.as_str(), "https://")
        || starts("x-forwarded-proto", "https")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::Role;

    fn ada() -> User {
        User {
            name: "ada".into(),
            role: Role::Admin,
        }
    }

    /// Makes the session of a token older.
    fn age(sessions: &Sessions, token: &str, unused: Duration, open: Duration) {
        let mut sessions = sessions.0.lock();
        let session = sessions.get_mut(&hash(token)).expect("open");
        session.used = Instant::now().checked_sub(unused).expect("in range");
        session.opened = Instant::now().checked_sub(open).expect("in range");
    }

    #[test]
    fn a_session_ends_by_a_log_out_when_it_is_unused_and_after_its_longest_time() {
        let sessions = Sessions::default();
        let open = || sessions.open(ada()).expect("randomness");
        let (first, second) = (open(), open());
        assert_ne!(first, second);
        let (user, end) = sessions.user(&first).expect("open");
        assert_eq!(user, ada());
        assert_eq!(sessions.close(&first), Some(ada()));
        assert!(end.0.is_cancelled() && sessions.user(&first).is_none());
        assert!(sessions.user(&second).is_some() && sessions.user("").is_none());
        // The clock of a machine that has just started does not reach back as far.
        if Instant::now().checked_sub(LONGEST).is_some() {
            age(&sessions, &second, Duration::ZERO, LONGEST);
            assert!(sessions.user(&second).is_none());
            let third = open();
            age(&sessions, &third, IDLE, IDLE);
            assert!(sessions.user(&third).is_none());
        }
    }

    #[test]
    fn the_number_of_sessions_is_bounded_and_the_least_used_one_ends() {
        let sessions = Sessions::default();
        let open = || sessions.open(ada()).expect("randomness");
        let (first, second) = (open(), open());
        for _ in 2..MOST {
            open();
        }
        assert!(sessions.user(&first).is_some());
        open();
        assert_eq!(sessions.0.lock().len(), MOST);
        assert!(sessions.user(&first).is_some(), "it was used");
        assert!(sessions.user(&second).is_none());
    }

    #[test]
    fn a_cookie_is_secure_if_the_browser_uses_https() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter().map(|(name, value)| {
                let value = HeaderValue::from_static(value);
                (name.parse().expect("a name"), value)
            });
            pairs.collect::<HeaderMap>()
        };
        let uri = Uri::from_static("/login");
        for (pairs, expected) in [
            (
                &[("host", "ops:8089")][..],
                "asynqueue-session-8089=t; Path=/ops; Max-Age=604800; HttpOnly; SameSite=Strict",
            ),
            (
                &[("host", "ops"), ("origin", "https://ops")],
                "asynqueue-session=t; Path=/ops; Max-Age=604800; HttpOnly; SameSite=Strict; Secure",
            ),
            (
                &[("x-forwarded-proto", "https")],
                "asynqueue-session=t; Path=/ops; Max-Age=604800; HttpOnly; SameSite=Strict; Secure",
            ),
            (
                &[("x-forwarded-proto", "http")],
                "asynqueue-session=t; Path=/ops; Max-Age=604800; HttpOnly; SameSite=Strict",
            ),
        ] {
            let cookie = Cookie::of(&headers(pairs), &uri).set("t", "/ops");
            assert_eq!(cookie.expect("a value"), expected);
        }
        let sent = headers(&[
            ("host", "[::1]:80"),
            ("cookie", "a=b; asynqueue-session-80=xyz"),
        ]);
        assert_eq!(Cookie::of(&sent, &uri).token.as_deref(), Some("xyz"));
    }
}
