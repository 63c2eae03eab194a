//! `/livez` and `/readyz` of the monitor. They require no login, because orchestrators have none.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use asynqueue_core::inspector::Inspector;
use axum::{Router, routing::get};
use tokio::sync::Mutex;

use crate::health::{in_time, live, response};

/// How long a ping is valid. Strangers can send any number of probes, and the broker must not notice.
const VALID: Duration = Duration::from_secs(1);

/// The last ping, and when it started.
type Last = Mutex<Option<(Instant, Result<(), String>)>>;

/// The routes of the monitor of a broker.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(inspector: Inspector) -> Router<S> {
    let last = Arc::new(Last::default());
    let ready = async move || response(ready(&inspector, &last).await);
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
}

/// Whether the broker responds. Concurrent requests share a ping.
async fn ready(inspector: &Inspector, last: &Last) -> Result<(), String> {
    let mut last = last.lock().await;
    if let Some((at, ready)) = &*last
        && at.elapsed() < VALID
    {
        return ready.clone();
    }
    let at = Instant::now();
    let ready = in_time(inspector.ping()).await;
    *last = Some((at, ready.clone()));
    ready
}
