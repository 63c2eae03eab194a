//! Authentication and authorization.
//!
//! Every request passes [`guard`] first. It rejects cross-site changes, authenticates by password or by the [`User`]
//! that a layer of the program has set, and adds security headers, which allow browsers to run the monitor's own script
//! only.

mod credentials;
mod origin;
mod throttle;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{
            AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY,
            RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

use self::throttle::Throttle;
pub(crate) use self::{credentials::Credentials, origin::is_same_origin};

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
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) credentials: Arc<Credentials>,
    /// Disables changes for every role.
    pub(crate) read_only: bool,
    /// Accepts only `Host` headers that always refer to this machine.
    local_names_only: bool,
    failures: Throttle,
}

/// Allows resources of the monitor only, no inline scripts or styles, and no embedding in other pages.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Keeps other sites from loading our script, which would reveal whether the user is logged in.
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
            failures: Throttle::default(),
        }
    }

    /// The user who makes a request, or the response that rejects it.
    async fn identify(self: &Arc<Self>, caller: Caller) -> Result<User, Response> {
        let mut user = match caller.user {
            Some(user) => user,
            None if self.credentials.is_empty() => User {
                name: "anonymous".into(),
                role: Role::Admin,
            },
            None => self.log_in(caller.header, caller.address).await?,
        };
        if self.read_only {
            user.role = Role::Viewer;
        }
        Ok(user)
    }

    async fn log_in(
        self: &Arc<Self>,
        header: Option<HeaderValue>,
        address: Option<IpAddr>,
    ) -> Result<User, Response> {
        let Some(header) = header else {
            return Err(unauthorized());
        };
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
            let message = format!("too many failed logins: retry in {seconds} s\n");
            let mut response = (StatusCode::TOO_MANY_REQUESTS, message).into_response();
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
            return Err(response);
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
        checked.await.ok().flatten().ok_or_else(unauthorized)
    }

    /// Whether the request uses a host name that someone else may control. Without passwords, DNS rebinding would
    /// otherwise give pages of other sites full access.
    fn is_foreign_host(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        self.local_names_only && !host.is_none_or(origin::is_this_machine)
    }
}

/// Accepts or rejects a request.
pub(crate) async fn guard(
    State(access): State<Arc<Access>>,
    mut request: Request,
    next: Next,
) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    // Viewers may change the settings of their own browser, and start and stop their searches.
    let path = request.uri().path();
    let is_own = matches!(path, "/settings" | "/search" | "/api/searches")
        || path.starts_with("/api/searches/");
    let mut response = if access.is_foreign_host(request.headers()) {
        let message = "unexpected host name: open the monitor as `localhost` or by IP address, or add a user\n";
        (StatusCode::MISDIRECTED_REQUEST, message).into_response()
    } else if changes && !origin::is_same_origin(request.headers()) {
        let message = "cross-site request rejected\n";
        (StatusCode::FORBIDDEN, message).into_response()
    } else {
        match access.identify(Caller::of(&request)).await {
            Err(rejection) => rejection,
            Ok(user) if changes && user.role != Role::Admin && !is_own => {
                let message = "read-only access: changes are not permitted\n";
                (StatusCode::FORBIDDEN, message).into_response()
            }
            Ok(user) => {
                request.extensions_mut().insert(user);
                match changes {
                    true => to_completion(next.run(request)).await,
                    false => next.run(request).await,
                }
            }
        }
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
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
struct Caller {
    user: Option<User>,
    header: Option<HeaderValue>,
    address: Option<IpAddr>,
}

impl Caller {
    fn of(request: &Request) -> Self {
        let extensions = request.extensions();
        let info = extensions.get::<ConnectInfo<SocketAddr>>();
        Self {
            user: extensions.get::<User>().cloned(),
            header: request.headers().get(AUTHORIZATION).cloned(),
            address: info.map(|ConnectInfo(address)| address.ip()),
        }
    }
}

fn unauthorized() -> Response {
    let challenge = [(
        WWW_AUTHENTICATE,
        "Basic realm=\"asynqueue\", charset=\"UTF-8\"",
    )];
    (
        StatusCode::UNAUTHORIZED,
        challenge,
        "authentication required\n",
    )
        .into_response()
}
