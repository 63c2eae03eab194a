//! Who may see the monitor, and who may change things by it.
//!
//! Every request passes here first: it is thrown out if it comes from another site, let in by name and password or by whatever
//! the program has put in front, and its answer gets the headers that keep a browser from running anything but our own script.

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
pub(crate) use self::{credentials::Credentials, origin::is_own};

/// What someone may do with a monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// See everything, and change nothing.
    Viewer,
    /// Also change things.
    Admin,
}

/// Who makes a request. A tower layer of your own that lets people in puts this into the request's extensions, so that the monitor
/// knows their name and role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Their name, which the tasks that they change tell.
    pub name: Arc<str>,
    /// What they may do.
    pub role: Role,
}

/// What decides about requests.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) credentials: Arc<Credentials>,
    /// Nobody may change anything, whatever their role.
    pub(crate) read_only: bool,
    /// Only names that nobody but this machine can have lead here.
    by_its_own_name: bool,
    failures: Throttle,
}

/// Nothing from elsewhere, no script but that of a file, and no page of others around this one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Other sites cannot tell by our script who is logged in.
const SAME_ORIGIN: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

impl Access {
    pub(crate) fn new(
        credentials: Arc<Credentials>,
        read_only: bool,
        by_its_own_name: bool,
    ) -> Self {
        Self {
            credentials,
            read_only,
            by_its_own_name,
            failures: Throttle::default(),
        }
    }

    /// Who makes a request, or the answer that turns it away.
    async fn identify(self: &Arc<Self>, asked: Asked) -> Result<User, Response> {
        let mut user = match asked.user {
            Some(user) => user,
            None if self.credentials.is_empty() => User {
                name: "anonymous".into(),
                role: Role::Admin,
            },
            None => self.log_in(asked.header, asked.address).await?,
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
            return Err(ask_for_password());
        };
        if let Some(user) = self.credentials.known(&header) {
            return Ok(user);
        }
        let turn = self.credentials.turn().await;
        // Of many requests of one browser, the first is checked.
        if let Some(user) = self.credentials.known(&header) {
            return Ok(user);
        }
        if let Err(wait) = self.failures.admit(address) {
            let seconds = wait.as_secs() + 1;
            let message = format!("too many wrong passwords; try again in {seconds} s\n");
            let mut answer = (StatusCode::TOO_MANY_REQUESTS, message).into_response();
            answer.headers_mut().insert(RETRY_AFTER, seconds.into());
            return Err(answer);
        }
        let access = Arc::clone(self);
        // It counts although whoever guesses goes away.
        let checked = tokio::task::spawn_blocking(move || {
            let user = access.credentials.check(&header);
            if user.is_none() {
                access.failures.note(address);
                tracing::warn!(target: "asynqueue::audit", ?address, "wrong name or password");
            }
            drop(turn);
            user
        });
        checked.await.ok().flatten().ok_or_else(ask_for_password)
    }

    /// Whether a browser may have been led here by a name that somebody else owns: without passwords, whoever gets a page of
    /// theirs and ours to have the same name could read and change everything (DNS rebinding).
    fn is_led_astray(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        self.by_its_own_name && !host.is_none_or(origin::is_this_machine)
    }
}

/// Lets a request in, or turns it away.
pub(crate) async fn guard(
    State(access): State<Arc<Access>>,
    mut request: Request,
    next: Next,
) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    // What people set for their own browser.
    let is_own_business = request.uri().path() == "/settings";
    let mut answer = if access.is_led_astray(request.headers()) {
        let message = "open this by the name `localhost` or by its number, or add a user\n";
        (StatusCode::MISDIRECTED_REQUEST, message).into_response()
    } else if changes && !origin::is_own(request.headers()) {
        let message = "this request comes from another site, and is refused\n";
        (StatusCode::FORBIDDEN, message).into_response()
    } else {
        match access.identify(Asked::of(&request)).await {
            Err(refusal) => refusal,
            Ok(user) if changes && user.role != Role::Admin && !is_own_business => {
                let message = "you may look at everything here, and change nothing\n";
                (StatusCode::FORBIDDEN, message).into_response()
            }
            Ok(user) => {
                request.extensions_mut().insert(user);
                match changes {
                    true => to_its_end(next.run(request)).await,
                    false => next.run(request).await,
                }
            }
        }
    };
    let headers = answer.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (SAME_ORIGIN, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Payloads are nobody else's, also after someone has left the machine.
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    answer
}

/// Makes a change whole, and notes who made it, though whoever asked for it has gone away.
async fn to_its_end(change: impl Future<Output = Response> + Send + 'static) -> Response {
    tokio::spawn(change).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a change by the monitor has ended");
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            "this is a fault of the monitor\n",
        )
            .into_response()
    })
}

/// What a request tells of who makes it.
struct Asked {
    user: Option<User>,
    header: Option<HeaderValue>,
    address: Option<IpAddr>,
}

impl Asked {
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

fn ask_for_password() -> Response {
    let challenge = [(
        WWW_AUTHENTICATE,
        "Basic realm=\"asynqueue\", charset=\"UTF-8\"",
    )];
    (
        StatusCode::UNAUTHORIZED,
        challenge,
        "name and password, please\n",
    )
        .into_response()
}
