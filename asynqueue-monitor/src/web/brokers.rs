//! Several brokers in one web monitor: each has its pages below its own path, and all share a login.

use std::{collections::BTreeSet, fmt, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{OriginalUri, Request},
    http::{StatusCode, Uri},
    response::Redirect,
    routing::{MethodRouter, get},
};
use futures_util::future::join_all;
use tokio::net::ToSocketAddrs;
use tower_service::Service as _;

use super::{Monitor, links::Links, serving::serve};
use crate::{Endpoint, ServeError, health::live};

/// The names of paths that are not those of brokers.
const RESERVED: [&str; 4] = ["livez", "readyz", ".", ".."];

/// How much of the reason of a broker that is not ready is shown.
const REASON: usize = 10_000;

/// The web monitor of several brokers. Each broker has its pages and its API below its name, such as `/eu`. Every page
/// has a switcher.
///
/// The users, the path and the base of the first monitor apply to all. Name, color, redaction, charts and permission to
/// make changes are those of each.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use asynqueue_core::memory::MemoryBroker;
/// use asynqueue_monitor::{Monitor, Monitors, Role};
///
/// let (eu, us) = (MemoryBroker::new(), MemoryBroker::new());
/// let monitors = Monitors::of([
///     ("eu", Monitor::new(eu).user("ada", "a password", Role::Admin)?),
///     ("us", Monitor::new(us).read_only()),
/// ])?;
/// let endpoint = monitors.serve("127.0.0.1:0").await?;
/// # endpoint.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Monitors {
    /// At least one.
    monitors: Vec<(String, Monitor)>,
}

/// The brokers that a page can switch to.
#[derive(Clone, Debug)]
pub(super) struct Switcher {
    pub(super) names: Arc<[String]>,
    /// The name of the broker that the page shows.
    pub(super) this: String,
}

impl Monitors {
    /// Creates the monitor of some brokers, each with the name of its path.
    ///
    /// # Errors
    ///
    /// [`ServeError::Broker`] if there is no broker, if a name is used twice or has other characters than letters,
    /// digits, `-`, `_` and `.`, or if another monitor than the first one has users.
    pub fn of<N: Into<String>>(
        monitors: impl IntoIterator<Item = (N, Monitor)>,
    ) -> Result<Self, ServeError> {
        let named = monitors.into_iter();
        let monitors: Vec<_> = named
            .map(|(name, monitor)| (name.into(), monitor))
            .collect();
        let mut names = BTreeSet::new();
        for (at, (name, monitor)) in monitors.iter().enumerate() {
            let problem = match name.as_str() {
                name if !is_name(name) => {
                    "expected a name of letters, digits, `-`, `_` and `.`, other than `livez` and `readyz`"
                }
                name if !names.insert(name) => "two brokers have this name: rename one of them",
                _ if at > 0 && !monitor.credentials.is_empty() => {
                    "all brokers share a login: add its users to the first monitor"
                }
                _ => continue,
            };
            return Err(invalid(name, problem));
        }
        match monitors.is_empty() {
            true => Err(invalid("", "expected at least one broker")),
            false => Ok(Self { monitors }),
        }
    }

    /// The path below which [`serve`](Self::serve) serves the monitors.
    pub fn served_path(&self) -> &str {
        &self.first().path
    }

    /// The routes of all monitors: see [`Monitor::router`].
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        self.guarded(false)
    }

    /// Serves the monitors on a separate address: see [`Monitor::serve`].
    ///
    /// # Errors
    ///
    /// Those of [`Monitor::serve`].
    pub async fn serve(
        &self,
        address: impl ToSocketAddrs + fmt::Display,
    ) -> Result<Endpoint, ServeError> {
        let first = self.first();
        let router = self.guarded(!first.is_guarded());
        serve(first, address, router).await
    }

    fn first(&self) -> &Monitor {
        &self.monitors[0].1
    }

    fn guarded<S: Clone + Send + Sync + 'static>(&self, local_names_only: bool) -> Router<S> {
        let first = self.first();
        let access = first.access(local_names_only);
        let names: Arc<[String]> = self.monitors.iter().map(|(name, _)| name.clone()).collect();
        let mut all = Router::new();
        let mut routers = Vec::new();
        for (name, monitor) in &self.monitors {
            let switcher = Switcher {
                names: Arc::clone(&names),
                this: name.clone(),
            };
            let mut monitor = monitor.clone();
            monitor.base = first.base.as_ref().map(|base| format!("{base}/{name}"));
            let access = access.beside(monitor.read_only);
            let router: Router = monitor.connected(&Arc::new(access), Some(&switcher));
            all = all.nest(&format!("/{name}"), router.clone().with_state(()));
            // A path typed by hand often ends with a slash.
            all = all.route(&format!("/{name}/"), to_broker(name, first.base.as_deref()));
            routers.push((name.clone(), router));
        }
        let start = &self.monitors[0].0;
        all.route("/", to_broker(start, first.base.as_deref()))
            .route("/livez", get(live))
            .route("/readyz", get(async move || ready(routers).await))
    }
}

impl Switcher {
    /// The path of all brokers, from that of this one.
    pub(super) fn root(&self, base: &str) -> String {
        let below = format!("/{}", self.this);
        base.strip_suffix(&below).unwrap_or(base).to_owned()
    }
}

/// A redirect to the first page of a broker.
fn to_broker<S: Clone + Send + Sync + 'static>(name: &str, base: Option<&str>) -> MethodRouter<S> {
    let (name, base) = (name.to_owned(), base.map(str::to_owned));
    get(async move |original: OriginalUri, inner: Uri| {
        let links = Links::new(base.as_deref(), &original, &inner);
        Redirect::to(&links.page(&name))
    })
}

/// Whether at least one broker responds: pages of the others are useful while one is away.
async fn ready(routers: Vec<(String, Router)>) -> (StatusCode, String) {
    let probes = routers.into_iter().map(async |(name, mut router)| {
        let request = Request::get("/readyz").body(Body::empty());
        let Ok(response) = router.call(request.unwrap_or_default()).await;
        let status = response.status();
        let reason = to_bytes(response.into_body(), REASON).await;
        let reason = reason.unwrap_or_default();
        let reason = String::from_utf8_lossy(&reason).trim().to_owned();
        (status.is_success(), format!("{name}: {reason}\n"))
    });
    let probes = join_all(probes).await;
    let status = match probes.iter().any(|(ready, _)| *ready) {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, probes.into_iter().map(|(_, line)| line).collect())
}

fn is_name(name: &str) -> bool {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.chars().all(is_valid) && !RESERVED.contains(&name)
}

fn invalid(name: &str, problem: &str) -> ServeError {
    ServeError::Broker {
        name: name.to_owned(),
        problem: problem.to_owned(),
    }
}
