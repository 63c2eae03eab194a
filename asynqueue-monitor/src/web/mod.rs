//! The web monitor: queues, running tasks, failures with their reasons, and actions on all of them.
//!
//! Pages are rendered on the server and work without JavaScript; a small script keeps their numbers current. Each
//! change is a form that is sent by `POST` and redirects back to a page. The JSON API offers the same data and actions
//! to programs.
//!
//! | module | content |
//! |---|---|
//! | `reading/` | queries against the broker; depends only on the inspector |
//! | `live/`, `version.rs`, `attention.rs`, `jobs.rs` | live updates, problem detection and background jobs |
//! | `request/` | request context and errors |
//! | `changes.rs` | changes shared by forms and the API |
//! | `pages/`, `forms.rs` | HTML |
//! | `api/` | JSON |
//!
//! HTML and JSON modules do not depend on each other, and no other module depends on them. A test in `layers.rs`
//! enforces this.

mod access;
mod api;
mod assets;
mod attention;
mod body;
mod changes;
mod chart;
#[cfg(feature = "config")]
mod configured;
mod direction;
mod figures;
mod forms;
mod jobs;
#[cfg(test)]
mod layers;
mod links;
mod live;
mod pages;
#[cfg(feature = "prometheus")]
mod prometheus;
mod reading;
mod request;
mod settings;
mod show;
mod version;

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use asynqueue_core::{broker::SharedBroker, inspector::Inspector};
use axum::{
    Router, middleware,
    response::Redirect,
    routing::{get, post},
};
use tokio::net::ToSocketAddrs;
use tower_http::{catch_panic::CatchPanicLayer, compression::CompressionLayer};

pub use self::access::{Role, User};
use self::{
    access::{Access, Credentials},
    jobs::Jobs,
    live::Live,
};
use crate::{Endpoint, ServeError};

/// The web monitor of a broker.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use asynqueue_core::memory::MemoryBroker;
/// use asynqueue_monitor::{Monitor, Role};
///
/// let monitor = Monitor::new(MemoryBroker::new())
///     .user("ada", "a password, or its argon2 hash", Role::Admin)?
///     .user("guest", "another", Role::Viewer)?;
///
/// // Nested in an existing router, below any path:
/// let app: axum::Router = axum::Router::new().nest("/monitoring", monitor.router());
///
/// // Or on a separate address:
/// let endpoint = monitor.serve("127.0.0.1:0").await?;
/// println!("http://{}", endpoint.address());
/// # drop(app);
/// # endpoint.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Monitor {
    inspector: Inspector,
    credentials: Arc<Credentials>,
    read_only: bool,
    open: bool,
    base: Option<String>,
    path: String,
    grace: Duration,
    #[cfg(feature = "prometheus")]
    prometheus: Option<prometheus::Prometheus>,
}

/// The state that all routes share.
pub(crate) struct Shared {
    inspector: Inspector,
    live: Live,
    jobs: Arc<Jobs>,
    base: Option<String>,
    #[cfg(feature = "prometheus")]
    prometheus: Option<prometheus::Prometheus>,
}

impl Monitor {
    /// Creates the monitor of a broker. Without [users](Self::user), everyone who can reach it has full access, and
    /// [`serve`](Self::serve) accepts loopback addresses only.
    pub fn new(broker: impl Into<SharedBroker>) -> Self {
        Self::of(Inspector::new(broker))
    }

    /// Like [`new`](Self::new), with a configured inspector, for example one with additional codecs.
    pub fn of(inspector: Inspector) -> Self {
        Self {
            inspector,
            credentials: Arc::default(),
            read_only: false,
            open: false,
            base: None,
            path: "/".into(),
            grace: Duration::from_secs(5),
            #[cfg(feature = "prometheus")]
            prometheus: None,
        }
    }

    /// Adds a user with a password, in plain text or as an argon2 hash in PHC format (`$argon2id$…`). With at least one
    /// user, every request has to authenticate.
    ///
    /// # Errors
    ///
    /// If the name is empty or contains a colon, if the password is empty, if it starts with `$argon2` and is not a
    /// usable hash, or if it looks like a hash of another algorithm, such as `$2b$12$…`.
    pub fn user(mut self, name: &str, password: &str, role: Role) -> Result<Self, ServeError> {
        let mut credentials = Arc::unwrap_or_clone(self.credentials);
        credentials
            .add(name, password, role)
            .map_err(|error| ServeError::Password(error.to_string()))?;
        self.credentials = Arc::new(credentials);
        Ok(self)
    }

    /// Disables all changes for every role. Default: changes are enabled.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Allows [`serve`](Self::serve) to listen on any address without users: everyone who can reach it has full access.
    /// Default: not allowed.
    #[must_use]
    pub fn open_to_all(mut self) -> Self {
        self.open = true;
        self
    }

    /// Sets the path prefix that a reverse proxy strips, so that links contain it. A prefix from nesting in an axum
    /// router is detected automatically.
    #[must_use]
    pub fn base(mut self, path: &str) -> Self {
        self.base = Some(path.trim_end_matches('/').to_owned());
        self
    }

    /// Hides the values of fields with these names, such as `password`, in payloads and results: see
    /// [`Inspector::redact`].
    #[must_use]
    pub fn redact(mut self, fields: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.inspector = self.inspector.redact(fields);
        self
    }

    /// Sets how long bulk changes and deletions can be undone before they start. Default: 5 seconds.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Adds charts from a Prometheus server, such as `http://prometheus:9090`, that scrapes the
    /// [metrics](crate::metrics) of the servers or of the program that runs the monitor.
    ///
    /// # Errors
    ///
    /// [`ServeError::Prometheus`] if `url` is not a valid `http` URL.
    #[cfg(feature = "prometheus")]
    pub fn prometheus(mut self, url: &str) -> Result<Self, ServeError> {
        self.prometheus = Some(prometheus::Prometheus::at(url)?);
        Ok(self)
    }

    /// Sets the path below which [`serve`](Self::serve) serves the monitor. Default: `/`.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = format!("/{}", path.trim_matches('/'));
        self
    }

    /// The path below which [`serve`](Self::serve) serves the monitor.
    pub fn served_path(&self) -> &str {
        &self.path
    }

    /// The routes of the monitor, to be [nested](Router::nest) below any path of an existing router. A layer that
    /// authenticates requests itself passes the user on as a [`User`] in the request extensions.
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        self.guarded(false)
    }

    /// The routes behind the access guard. `local_names_only` rejects requests whose `Host` may belong to someone else.
    fn guarded<S: Clone + Send + Sync + 'static>(&self, local_names_only: bool) -> Router<S> {
        let jobs = Arc::new(Jobs::new(self.grace));
        let shared = Arc::new(Shared {
            live: Live::new(self.inspector.clone()),
            jobs,
            inspector: self.inspector.clone(),
            base: self.base.clone(),
            #[cfg(feature = "prometheus")]
            prometheus: self.prometheus.clone(),
        });
        let credentials = Arc::clone(&self.credentials);
        let access = Arc::new(Access::new(credentials, self.read_only, local_names_only));
        Router::new()
            .route("/", get(pages::overview::show))
            .route("/queues/{queue}", get(pages::queue::show))
            .route("/queues/{queue}/act", post(forms::on_queue))
            .route("/queues/{queue}/tasks", post(forms::on_tasks))
            .route(
                "/queues/{queue}/tasks/{id}",
                get(pages::task::show).post(forms::on_task),
            )
            .route("/find", get(pages::find::show))
            .route("/servers", get(pages::servers::show).post(forms::on_server))
            .route(
                "/schedules",
                get(pages::schedules::show).post(forms::on_schedule),
            )
            .route("/schedules/{entry}", get(pages::schedule::show))
            .route("/charts", get(pages::charts::show))
            .route("/audit", get(pages::audit::show))
            .route("/groups", get(pages::groups::show))
            .route("/jobs/{id}", post(forms::on_job))
            .route(
                "/settings",
                get(pages::settings::show).post(pages::settings::save),
            )
            .route("/subscriptions", get(pages::subscriptions::show))
            .route(
                "/outboxes",
                get(pages::outboxes::show).post(forms::on_outbox),
            )
            .route("/storage", get(pages::storage::show))
            .route("/live", get(live::stream))
            .route("/assets/{version}/{name}", get(assets::file))
            .merge(api::router())
            .fallback(pages::not_found)
            .with_state(Arc::clone(&shared))
            .layer(middleware::from_fn_with_state(shared, pages::render_errors))
            .layer(CatchPanicLayer::new())
            .layer(CompressionLayer::new())
            .layer(middleware::from_fn_with_state(access, access::guard))
            .layer(middleware::map_request(body::within_limit))
    }

    /// Serves the monitor on a separate address, such as `127.0.0.1:8080`, and logs its URL at level `info`.
    ///
    /// # Errors
    ///
    /// [`ServeError::Bind`] if the address is invalid or in use. [`ServeError::Unguarded`] if other machines could
    /// reach the address and there are neither [users](Self::user) nor [`open_to_all`](Self::open_to_all).
    pub async fn serve(
        &self,
        address: impl ToSocketAddrs + fmt::Display,
    ) -> Result<Endpoint, ServeError> {
        let is_guarded = self.open || !self.credentials.is_empty();
        let check = |address: &SocketAddr| match is_guarded || address.ip().is_loopback() {
            true => Ok(()),
            false => Err(ServeError::Unguarded { address: *address }),
        };
        let router = match self.path.as_str() {
            "/" => self.guarded(!is_guarded),
            path => {
                let page = path.to_owned();
                let to_page = get(move || std::future::ready(Redirect::to(&page)));
                let redirects = Router::new().route("/", to_page.clone());
                let redirects = redirects.route(&format!("{path}/"), to_page);
                redirects.nest(path, self.guarded(!is_guarded))
            }
        };
        let endpoint = Endpoint::serve(address, check, router).await?;
        let url = format!("http://{}{}", endpoint.address(), self.path);
        tracing::info!(%url, "web monitor listening");
        Ok(endpoint)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("inspector", &self.inspector)
            .finish_non_exhaustive()
    }
}
