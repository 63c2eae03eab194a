//! Authentication and authorization.
//!
//! Every request passes [`protect`], which rejects cross-site changes and adds security headers. They allow browsers to
//! run the monitor's own script only. [`guard`] authenticates by password, by session, or by the [`User`] that a layer of
//! the program has set.

mod credentials;
mod origin;
mod sessions;
mod throttle;

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts, Request, State},
    http::{
        Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
        header::{
            ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY,
            RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
        request::Parts,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

pub(crate) use self::{credentials::Credentials, origin::is_same_origin, sessions::SessionEnd};
use self::{
    sessions::{Cookie, Sessions},
    throttle::Throttle,
};

/// The permissions of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// May see everything and change nothing.
    Viewer,
    /// May see and change everything.
    Admin,
}

/// The user who makes a request. A tower layer that authenticates requests itself inserts this into the request
/// extensions: see [`Monitor::router`](crate::Monitor::router).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name, which is recorded in changed tasks and in the audit log.
    pub name: Arc<str>,
    /// The permissions.
    pub role: Role,
}

/// The rules for requests.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) credentials: Arc<Credentials>,
    /// Disables changes for every role.
    pub(crate) read_only: bool,
    /// Accepts only `Host` headers that always refer to this machine.
    local_names_only: bool,
    failures: Arc<Throttle>,
    sessions: Arc<Sessions>,
}

/// Allows resources of the monitor only, no inline scripts or styles, and no embedding in other pages.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Keeps other sites from loading responses, whose success would reveal whether the user is logged in.
const SAME_ORIGIN: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

impl Access {
    pub(crate) fn new(
        credentials: Arc<Credentials>,
        read_only: bool,
        local_names_only: bool,
    ) -> Self {
        Self {
            credentials,
            read_only,
            local_names_only,
            failures: Arc::default(),
            sessions: Arc::default(),
        }
    }

    /// The rules for another broker. Both share users, sessions and failed logins.
    pub(super) fn beside(&self, read_only: bool) -> Self {
        Self {
            read_only,
            ..self.clone()
        }
    }

    /// The user who makes a request, and the end of the session if it belongs to one.
    async fn identify(
        self: &Arc<Self>,
        caller: &Caller,
    ) -> Result<(User, Option<SessionEnd>), Denied> {
        let (mut user, session) = match &caller.user {
            Some(user) => (user.clone(), None),
            None if self.credentials.is_empty() => {
                let name = "anonymous".into();
                let role = Role::Admin;
                (User { name, role }, None)
            }
            None => self.known_or_verified(caller).await?,
        };
        if self.read_only {
            user.role = Role::Viewer;
        }
        Ok((user, session))
    }

    async fn known_or_verified(
        self: &Arc<Self>,
        caller: &Caller,
    ) -> Result<(User, Option<SessionEnd>), Denied> {
        let token = caller.cookie.token.as_deref();
        if let Some((user, end)) = token.and_then(|token| self.sessions.user(token)) {
            return Ok((user, Some(end)));
        }
        let header = caller.header.clone().ok_or(Denied::Unauthorized)?;
        Ok((self.verify(header, caller.address).await?, None))
    }

    /// Verifies a name and a password.
    async fn verify(
        self: &Arc<Self>,
        header: HeaderValue,
        address: Option<IpAddr>,
    ) -> Result<User, Denied> {
        if let Some(user) = self.credentials.known(&header) {
            return Ok(user);
        }
        let turn = self.credentials.turn().await;
        // Of many concurrent requests with the same header, only the first is verified.
        if let Some(user) = self.credentials.known(&header) {
            return Ok(user);
        }
        if let Err(wait) = self.failures.admit(address) {
            let seconds = wait.as_secs() + 1;
            return Err(Denied::TooMany { seconds });
        }
        let access = Arc::clone(self);
        // A failure counts even if the client disconnects.
        let checked = tokio::task::spawn_blocking(move || {
            let user = access.credentials.check(&header);
            if user.is_none() {
                access.failures.record_failure(address);
                tracing::warn!(target: "asynqueue::audit", address = address.map(tracing::field::display), "login failed: wrong name or password");
            }
            drop(turn);
            user
        });
        checked.await.ok().flatten().ok_or(Denied::Unauthorized)
    }

    /// Begins a session for a name and a password. Returns the cookie, which browsers send below a path.
    pub(in crate::web) async fn log_in(
        self: &Arc<Self>,
        caller: &Caller,
        (name, password): (&str, &str),
        path: &str,
    ) -> Result<HeaderValue, Denied> {
        let header = credentials::header(name, password).ok_or(Denied::Unauthorized)?;
        let user = self.verify(header, caller.address).await?;
        self.end_session(caller);
        let name = Arc::clone(&user.name);
        let token = self.sessions.open(user);
        let cookie = token.and_then(|token| caller.cookie.set(&token, path));
        let cookie = cookie.ok_or(Denied::Unauthorized)?;
        tracing::info!(target: "asynqueue::audit", user = &*name, "logged in");
        Ok(cookie)
    }

    /// Ends the session of a request. Returns the cookie that removes its token from the browser.
    pub(in crate::web) fn log_out(&self, caller: &Caller, path: &str) -> Option<HeaderValue> {
        self.end_session(caller);
        caller.cookie.remove(path)
    }

    fn end_session(&self, caller: &Caller) {
        let token = caller.cookie.token.as_deref();
        if let Some(user) = token.and_then(|token| self.sessions.close(token)) {
            tracing::info!(target: "asynqueue::audit", user = &*user.name, "logged out");
        }
    }

    /// Whether the request uses a host name that someone else may control. Without passwords, DNS rebinding would
    /// otherwise give pages of other sites full access.
    fn is_foreign_host(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        self.local_names_only && !host.is_none_or(origin::is_this_machine)
    }
}

/// Rejects requests of pages of other sites, and adds headers that restrict what browsers do with responses.
pub(crate) async fn protect(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = if access.is_foreign_host(request.headers()) {
        let message = "unexpected host name: open the monitor as `localhost` or by IP address, or add a user\n";
        (StatusCode::MISDIRECTED_REQUEST, message).into_response()
    } else if changes(&request) && !origin::is_same_origin(request.headers()) {
        let message = "cross-site request rejected\n";
        (StatusCode::FORBIDDEN, message).into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        // With `no-referrer`, browsers send `Origin: null` with the forms of our own pages, and where a host is reached
        // without TLS they send nothing else.
        (REFERRER_POLICY, "same-origin"),
        (SAME_ORIGIN, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Payloads are confidential and must not remain in a browser's cache.
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Passes on requests of users, and their changes if they have the permission.
pub(crate) async fn guard(
    State(access): State<Arc<Access>>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = Caller::of(request.headers(), request.uri(), request.extensions());
    let (user, session) = match access.identify(&caller).await {
        Ok(known) => known,
        Err(denied) => return denied.response(caller.is_browser),
    };
    let changes = changes(&request);
    // Viewers may change the settings of their own browser, and start and stop their searches.
    let path = request.uri().path();
    let is_own = matches!(path, "/settings" | "/search" | "/api/searches")
        || path.starts_with("/api/searches/");
    if changes && user.role != Role::Admin && !is_own {
        let message = "read-only access: changes are not permitted\n";
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    request.extensions_mut().insert(user);
    if let Some(end) = session {
        request.extensions_mut().insert(end);
    }
    match changes {
        true => to_completion(next.run(request)).await,
        false => next.run(request).await,
    }
}

fn changes(request: &Request) -> bool {
    !matches!(*request.method(), Method::GET | Method::HEAD)
}

/// Completes a change and its audit log even if the client disconnects.
async fn to_completion(change: impl Future<Output = Response> + Send + 'static) -> Response {
    tokio::spawn(change).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a change in the monitor panicked");
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal error of the monitor; see its log\n",
        )
            .into_response()
    })
}

/// The identity information of a request.
#[derive(Debug)]
pub(in crate::web) struct Caller {
    user: Option<User>,
    header: Option<HeaderValue>,
    address: Option<IpAddr>,
    cookie: Cookie,
    /// Whether a page or its script sent the request. It has a form to log in with.
    is_browser: bool,
}

impl Caller {
    fn of(headers: &HeaderMap, uri: &Uri, extensions: &Extensions) -> Self {
        let info = extensions.get::<ConnectInfo<SocketAddr>>();
        let cookie = Cookie::of(headers, uri);
        let accepts = |kind: &str| {
            let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
            accept.is_some_and(|accept| accept.contains(kind))
        };
        Self {
            user: extensions.get::<User>().cloned(),
            header: headers.get(AUTHORIZATION).cloned(),
            address: info.map(|ConnectInfo(address)| address.ip()),
            // Browsers send `Sec-Fetch-Mode` by HTTPS and to this machine only.
            is_browser: cookie.token.is_some()
                || headers.contains_key("sec-fetch-mode")
                || accepts("text/html")
                || accepts("text/event-stream"),
            cookie,
        }
    }
}

impl Caller {
    /// Whether the browser has a session, of this process or of another one.
    pub(in crate::web) fn has_cookie(&self) -> bool {
        self.cookie.token.is_some()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers, &parts.uri, &parts.extensions))
    }
}

/// Why a request has no user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::web) enum Denied {
    Unauthorized,
    TooMany { seconds: u64 },
}

/// Marks responses in place of which browsers show a form to log in with.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct LoginRequired;

impl Denied {
    fn response(self, to_browser: bool) -> Response {
        match self {
            Self::TooMany { seconds } => {
                let retry = [(RETRY_AFTER, seconds.to_string())];
                let message = format!("too many failed logins: retry in {seconds} s\n");
                (StatusCode::TOO_MANY_REQUESTS, retry, message).into_response()
            }
            Self::Unauthorized => {
                // Browsers would open a dialog for the scheme `Basic`, and would keep the password until they exit.
                let scheme = if to_browser { "Session" } else { "Basic" };
                let challenge = format!("{scheme} realm=\"asynqueue\", charset=\"UTF-8\"");
                let message = "authentication required\n";
                let challenge = [(WWW_AUTHENTICATE, challenge)];
                let mut response = (StatusCode::UNAUTHORIZED, challenge, message).into_response();
                response.extensions_mut().insert(LoginRequired);
                response
            }
        }
    }
}
