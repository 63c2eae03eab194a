//! A monitor whose broker is not connected yet. It is alive, it is not ready, and it shows the reason.

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use asynqueue_core::{broker::SharedBroker, inspector::Inspector, layer::BoxError};
use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tower_service::Service;

use super::{Monitor, Source};
use crate::health::live;

/// The pause after the first failed attempt to connect. It doubles with each up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// Seconds after which browsers load a page again that has shown why there is no broker.
const RELOAD: &str = "2";

/// Connects to a broker.
#[derive(Clone)]
pub(super) struct Connect(
    Arc<dyn Fn() -> BoxFuture<'static, Result<SharedBroker, BoxError>> + Send + Sync>,
);

impl Monitor {
    /// Creates the monitor of a broker that may not be reachable yet. It connects when it is served, and again after
    /// each failure. Until it is connected, `/livez` returns 200, and every other path returns 503 with the reason.
    ///
    /// ```no_run
    /// # use asynqueue_core::memory::MemoryBroker;
    /// # use asynqueue_monitor::Monitor;
    /// # async fn connect(_: &str) -> Result<MemoryBroker, std::io::Error> { Ok(MemoryBroker::new()) }
    /// let monitor = Monitor::connecting(|| connect("redis://localhost"));
    /// ```
    pub fn connecting<C, F, B, E>(connect: C) -> Self
    where
        C: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<B, E>> + Send + 'static,
        B: Into<SharedBroker>,
        E: Into<BoxError>,
    {
        let connect = Connect(Arc::new(move || {
            let connecting = connect();
            Box::pin(async { connecting.await.map(Into::into).map_err(Into::into) })
        }));
        Self::with(Source::Connecting(connect))
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connect")
    }
}

/// The state until there is a broker.
struct Slot {
    /// The routes of the monitor, once it is connected.
    router: OnceLock<Router>,
    /// Why it is not connected.
    reason: Mutex<String>,
}

/// Routes that explain why there is no broker, and that become those of the monitor.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(
    connect: Connect,
    monitor: impl FnOnce(Inspector) -> Router + Send + 'static,
) -> Router<S> {
    let slot = Arc::new(Slot {
        router: OnceLock::new(),
        reason: Mutex::new("connecting to the broker".into()),
    });
    tokio::spawn(until_connected(connect, Arc::downgrade(&slot), monitor));
    let dispatch = move |request: Request| {
        let slot = Arc::clone(&slot);
        async move { slot.respond(request).await }
    };
    Router::new().route("/livez", get(live)).fallback(dispatch)
}

impl Slot {
    async fn respond(&self, request: Request) -> Response {
        let Some(router) = self.router.get() else {
            let reason = format!("{}\n", self.reason.lock());
            let again = [(RETRY_AFTER.as_str(), RELOAD), ("refresh", RELOAD)];
            return (StatusCode::SERVICE_UNAVAILABLE, again, reason).into_response();
        };
        match router.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Connects, unless nothing serves the routes any more.
async fn until_connected(
    Connect(connect): Connect,
    slot: Weak<Slot>,
    monitor: impl FnOnce(Inspector) -> Router,
) {
    let mut pause = FIRST_PAUSE;
    while slot.strong_count() > 0 {
        match connect().await {
            Ok(broker) => {
                if let Some(slot) = slot.upgrade() {
                    // Nothing else sets it.
                    let _ = slot.router.set(monitor(Inspector::new(broker)));
                }
                tracing::info!("connected to the broker");
                return;
            }
            Err(error) => {
                let reason = error.to_string();
                if let Some(slot) = slot.upgrade() {
                    let mut last = slot.reason.lock();
                    if *last != reason {
                        tracing::warn!(%error, "cannot connect to the broker; retrying");
                        *last = reason;
                    }
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(LAST_PAUSE);
    }
}
