//! The web monitor: queues, running tasks, failures with their reasons, and actions on all of them.
//!
//! Pages are rendered on the server and work without JavaScript; a small script keeps their numbers current. Each
//! change is a form that is sent by `POST` and redirects back to a page. The JSON API offers the same data and actions
//! to programs.
//!
//! | module | content |
//! |---|---|
//! | `reading/` | queries against the broker; depends only on the inspector |
//! | `live/`, `version.rs`, `attention/`, `jobs.rs`, `searches/` | live updates, problem detection, background jobs and searches |
//! | `notify/` | notifications of problems |
//! | `request/` | request context and errors |
//! | `changes.rs` | changes shared by forms and the API |
//! | `face.rs`, `brokers.rs` | how an installation looks, and several brokers in one |
//! | `connecting.rs`, `probes.rs`, `serving.rs` | a broker that is not connected yet, health checks, the address |
//! | `pages/`, `forms.rs` | HTML |
//! | `api/` | JSON |
//!
//! HTML and JSON modules do not depend on each other, and no other module depends on them. A test in `layers.rs`
//! enforces this.

mod access;
mod api;
mod assets;
mod attention;
mod backtrace;
mod body;
mod brokers;
mod causes;
mod changes;
mod chart;
#[cfg(feature = "config")]
mod configured;
mod connecting;
mod direction;
mod face;
mod figures;
mod forms;
mod jobs;
#[cfg(test)]
mod layers;
mod links;
mod live;
#[cfg(feature = "webhooks")]
mod notify;
mod pages;
mod probes;
mod process;
#[cfg(feature = "prometheus")]
mod prometheus;
mod reading;
mod request;
mod searches;
mod serving;
mod settings;
mod show;
mod version;

use std::{fmt, sync::Arc, time::Duration};

use asynqueue_core::{broker::SharedBroker, inspector::Inspector};
use axum::{
    Router, middleware,
    routing::{get, post},
};
use tokio::net::ToSocketAddrs;
use tower_http::{catch_panic::CatchPanicLayer, compression::CompressionLayer};

use self::{
    access::{Access, Credentials},
    brokers::Switcher,
    jobs::Jobs,
    live::Live,
    searches::Searches,
};
pub use self::{
    access::{Role, User},
    brokers::Monitors,
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
    source: Source,
    redacted: Vec<String>,
    credentials: Arc<Credentials>,
    read_only: bool,
    open: bool,
    base: Option<String>,
    face: face::Face,
    path: String,
    grace: Duration,
    #[cfg(feature = "prometheus")]
    prometheus: Option<prometheus::Prometheus>,
    #[cfg(feature = "webhooks")]
    webhooks: notify::Webhooks,
}

/// Where the tasks are.
#[derive(Clone, Debug)]
enum Source {
    Connected(Box<Inspector>),
    Connecting(connecting::Connect),
}

/// The state that all routes share.
pub(crate) struct Shared {
    inspector: Inspector,
    live: Live,
    jobs: Arc<Jobs>,
    searches: Searches,
    base: Option<String>,
    face: face::Face,
    access: Arc<Access>,
    switcher: Option<Switcher>,
    #[cfg(feature = "prometheus")]
    prometheus: Option<prometheus::Prometheus>,
    #[cfg(feature = "webhooks")]
    webhooks: notify::Webhooks,
}

impl Monitor {
    /// Creates the monitor of a broker. Without [users](Self::user), everyone who can reach it has full access, and
    /// [`serve`](Self::serve) accepts loopback addresses only.
    pub fn new(broker: impl Into<SharedBroker>) -> Self {
        Self::of(Inspector::new(broker))
    }

    /// Like [`new`](Self::new), with a configured inspector, for example one with additional codecs.
    pub fn of(inspector: Inspector) -> Self {
        Self::with(Source::Connected(Box::new(inspector)))
    }

    fn with(source: Source) -> Self {
        Self {
            source,
            redacted: Vec::new(),
            credentials: Arc::default(),
            read_only: false,
            open: false,
            base: None,
            face: face::Face::default(),
            path: "/".into(),
            grace: Duration::from_secs(5),
            #[cfg(feature = "prometheus")]
            prometheus: None,
            #[cfg(feature = "webhooks")]
            webhooks: notify::Webhooks::default(),
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
        self.redacted.extend(fields.into_iter().map(Into::into));
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

    /// Sends a JSON request to a URL when a problem needs attention, and when it has cleared: at most one request a
    /// minute, which is sent again until its response is a success. Each monitor sends its own. Nothing is sent by a
    /// [router](Self::router) that is built outside of a Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ServeError::Webhook`] if `url` is not an `http` or `https` URL.
    #[cfg(feature = "webhooks")]
    pub fn webhook(mut self, url: &str) -> Result<Self, ServeError> {
        self.webhooks.add_json(url)?;
        Ok(self)
    }

    /// Like [`webhook`](Self::webhook), as a text that Slack and compatible chats show.
    ///
    /// # Errors
    ///
    /// [`ServeError::Webhook`] if `url` is not an `http` or `https` URL.
    #[cfg(feature = "webhooks")]
    pub fn slack(mut self, url: &str) -> Result<Self, ServeError> {
        self.webhooks.add_slack(url)?;
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
        self.connected(&Arc::new(self.access(local_names_only)), None)
    }

    fn access(&self, local_names_only: bool) -> Access {
        let credentials = Arc::clone(&self.credentials);
        Access::new(credentials, self.read_only, local_names_only)
    }

    /// The routes as soon as there is a broker.
    fn connected<S>(&self, access: &Arc<Access>, switcher: Option<&Switcher>) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        let (access, switcher) = (Arc::clone(access), switcher.cloned());
        match &self.source {
            Source::Connected(inspector) => {
                self.routes(Inspector::clone(inspector), access, switcher)
            }
            Source::Connecting(connect) => {
                let monitor = self.clone();
                let routes = move |inspector| monitor.routes(inspector, access, switcher);
                connecting::routes(connect.clone(), routes)
            }
        }
    }

    /// The routes of the monitor of a broker.
    fn routes<S>(
        &self,
        inspector: Inspector,
        access: Arc<Access>,
        switcher: Option<Switcher>,
    ) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        let inspector = inspector.redact(&self.redacted);
        let jobs = Arc::new(Jobs::new(self.grace));
        let shared = Arc::new(Shared {
            live: Live::new(inspector.clone()),
            jobs,
            searches: Searches::default(),
            inspector: inspector.clone(),
            base: self.base.clone(),
            face: self.face.clone(),
            access: Arc::clone(&access),
            switcher,
            #[cfg(feature = "prometheus")]
            prometheus: self.prometheus.clone(),
            #[cfg(feature = "webhooks")]
            webhooks: self.webhooks.clone(),
        });
        #[cfg(feature = "webhooks")]
        self.webhooks.start(&shared);
        let pages = Router::new();
        #[cfg(feature = "webhooks")]
        let pages = pages.route(
            "/settings/webhooks/{place}",
            post(pages::webhooks::send_test),
        );
        let pages = pages
            .route("/", get(pages::overview::show))
            .route("/queues/{queue}", get(pages::queue::show))
            .route("/queues/{queue}/act", post(forms::on_queue))
            .route("/queues/{queue}/tasks", post(forms::on_tasks))
            .route("/queues/{queue}/confirm", get(pages::queue::confirm::show))
            .route(
                "/queues/{queue}/tasks/{id}",
                get(pages::task::show).post(forms::on_task),
            )
            .route("/failures", get(pages::failures::show))
            .route(
                "/failures/{cause}",
                get(pages::failures::one).post(pages::failures::retry),
            )
            .route("/find", get(pages::find::show))
            .route("/search", get(pages::search::show).post(pages::search::act))
            .route("/servers", get(pages::servers::show).post(forms::on_server))
            .route(
                "/schedules",
                get(pages::schedules::show).post(forms::on_schedule),
            )
            .route("/schedules/{entry}", get(pages::schedule::show))
            .route("/charts", get(pages::charts::show))
            .route("/events", get(pages::events::show))
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
            .merge(api::router())
            .fallback(pages::not_found)
            .with_state(Arc::clone(&shared))
            .layer(middleware::from_fn_with_state(
                Arc::clone(&shared),
                pages::render_errors,
            ))
            .layer(CatchPanicLayer::new())
            .layer(CompressionLayer::new())
            .layer(middleware::from_fn_with_state(
                Arc::clone(&access),
                access::guard,
            ));
        let open = Router::new()
            .route("/login", get(pages::login::show).post(pages::login::log_in))
            .route("/logout", post(pages::login::log_out))
            .route("/assets/face/{name}", get(face::style_sheet))
            .route("/assets/{version}/{name}", get(assets::file))
            .with_state(Arc::clone(&shared))
            .layer(middleware::from_fn_with_state(
                Arc::clone(&shared),
                pages::render_errors,
            ))
            .layer(CompressionLayer::new());
        pages
            .merge(open)
            .layer(middleware::from_fn_with_state(shared, pages::login::offer))
            .layer(middleware::from_fn_with_state(access, access::protect))
            .layer(middleware::from_fn(api::refused::as_json))
            .merge(probes::routes(inspector))
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
        serving::serve(self, address, self.guarded(!self.is_guarded())).await
    }

    /// Whether strangers are kept out, or are meant to have access.
    fn is_guarded(&self) -> bool {
        self.open || !self.credentials.is_empty()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("inspector", &self.inspector)
            .finish_non_exhaustive()
    }
}
