//! The web monitor: what the queues hold, what runs, what failed and why, and what to do about it.
//!
//! Pages are HTML made here, and work without script; a small script makes their figures live. Each change is a form that is
//! sent by `POST` and answered by a redirect. What they show and do is there for programs too, as JSON.
//!
//! | room | what is there |
//! |---|---|
//! | `reading/` | what is read of a broker; it knows of nothing but the inspector |
//! | `live/`, `version.rs`, `attention.rs`, `jobs.rs` | what changes while one looks, and what goes on by itself |
//! | `request/` | who asks for what, and why there is no answer |
//! | `changes.rs` | what forms and the API ask for alike |
//! | `pages/`, `forms.rs` | answers for people |
//! | `api/` | answers for programs |
//!
//! The last two know nothing of each other, and the others nothing of them: `rooms.rs` holds it so.

mod access;
mod api;
mod assets;
mod attention;
mod changes;
mod chart;
#[cfg(feature = "config")]
mod configured;
mod forms;
mod jobs;
mod links;
mod live;
mod pages;
#[cfg(feature = "prometheus")]
mod prometheus;
mod reading;
mod request;
#[cfg(test)]
mod rooms;
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
/// // In a web service of your own, below any path:
/// let app: axum::Router = axum::Router::new().nest("/monitoring", monitor.router());
///
/// // Or alone:
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

/// What the handlers share.
pub(crate) struct Shared {
    inspector: Inspector,
    live: Live,
    jobs: Arc<Jobs>,
    base: Option<String>,
    #[cfg(feature = "prometheus")]
    prometheus: Option<prometheus::Prometheus>,
}

impl Monitor {
    /// The monitor of a broker. Without [users](Self::user), whoever reaches it may do everything, and it
    /// [serves](Self::serve) this machine only.
    pub fn new(broker: impl Into<SharedBroker>) -> Self {
        Self::of(Inspector::new(broker))
    }

    /// As [`new`](Self::new), with an inspector that knows more codecs.
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

    /// Lets someone in, by a password or its hash as `argon2` writes it, `$argon2id$…`. From then on everyone has to log in.
    ///
    /// # Errors
    ///
    /// When the name is empty or has a colon, or the password is empty, or looks like a hash of argon2 and cannot be read.
    pub fn user(mut self, name: &str, password: &str, role: Role) -> Result<Self, ServeError> {
        let mut credentials = Arc::unwrap_or_clone(self.credentials);
        credentials
            .add(name, password, role)
            .map_err(|error| ServeError::Password(error.to_string()))?;
        self.credentials = Arc::new(credentials);
        Ok(self)
    }

    /// Lets nobody change anything, whatever their role.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Allows to [serve](Self::serve) other machines without users: whoever reaches it may do everything.
    #[must_use]
    pub fn open_to_all(mut self) -> Self {
        self.open = true;
        self
    }

    /// The path that browsers have before that of a page, where a proxy takes it away. Below a path of an axum router it is
    /// known without.
    #[must_use]
    pub fn base(mut self, path: &str) -> Self {
        self.base = Some(path.trim_end_matches('/').to_owned());
        self
    }

    /// Hides the values of fields of these names, such as `password`, in payloads and results; see [`Inspector::redact`].
    #[must_use]
    pub fn redact(mut self, fields: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.inspector = self.inspector.redact(fields);
        self
    }

    /// How long a change of many tasks, and each deletion, can be undone before it begins. Default 5 s.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Also shows charts of what a Prometheus server at this address has gathered, such as `http://prometheus:9090`: one that
    /// scrapes the [metrics](crate::metrics) of the servers, or of the monitor's program.
    ///
    /// # Errors
    ///
    /// When it is no address by `http`.
    #[cfg(feature = "prometheus")]
    pub fn prometheus(mut self, url: &str) -> Result<Self, ServeError> {
        self.prometheus = Some(prometheus::Prometheus::at(url)?);
        Ok(self)
    }

    /// The path below which it is [served](Self::serve) alone. Default `/`.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = format!("/{}", path.trim_matches('/'));
        self
    }

    /// The path below which it is [served](Self::serve) alone.
    pub fn served_path(&self) -> &str {
        &self.path
    }

    /// The pages, to be [nested](Router::nest) below any path of a router of your own. A layer of your own that lets people in
    /// tells who they are by a [`User`] in the request's extensions.
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        self.guarded(false)
    }

    /// The pages, for whoever asks for them by a name that only this machine has, or by any.
    fn guarded<S: Clone + Send + Sync + 'static>(&self, by_its_own_name: bool) -> Router<S> {
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
        let access = Arc::new(Access::new(credentials, self.read_only, by_its_own_name));
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
            .route("/groups", get(pages::groups::show))
            .route("/jobs/{id}", post(forms::on_job))
            .route(
                "/settings",
                get(pages::settings::show).post(pages::settings::save),
            )
            .route("/subscriptions", get(pages::subscriptions::show))
            .route("/storage", get(pages::storage::show))
            .route("/live", get(live::stream))
            .route("/assets/{version}/{name}", get(assets::file))
            .merge(api::router())
            .fallback(pages::not_found)
            .with_state(Arc::clone(&shared))
            .layer(middleware::from_fn_with_state(shared, pages::explained))
            .layer(CatchPanicLayer::new())
            .layer(CompressionLayer::new())
            .layer(middleware::from_fn_with_state(access, access::guard))
    }

    /// Serves the monitor at an address of its own, such as `127.0.0.1:8080`, and logs it at the level `info`.
    ///
    /// # Errors
    ///
    /// When nothing can listen there, or others than this machine could reach it and there are no users: add some, or say that
    /// this is [meant](Self::open_to_all).
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
                let elsewhere = Router::new().route("/", to_page.clone());
                let elsewhere = elsewhere.route(&format!("{path}/"), to_page);
                elsewhere.nest(path, self.guarded(!is_guarded))
            }
        };
        let endpoint = Endpoint::serve(address, check, router).await?;
        let url = format!("http://{}{}", endpoint.address(), self.path);
        tracing::info!(%url, "the web monitor listens");
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
