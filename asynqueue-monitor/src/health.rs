//! Liveness and readiness.

use std::time::Duration;

use asynqueue_core::broker::BrokerError;
use axum::http::StatusCode;

#[cfg(feature = "metrics")]
use crate::metrics::ReadyIf;

/// How long the broker may take to respond.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Always `200`: a response proves that the runtime still runs.
pub(crate) async fn live() -> &'static str {
    "ok\n"
}

/// `200` if the program's own check passes and the broker responds, otherwise `503` with the reason.
#[cfg(feature = "metrics")]
pub(crate) async fn ready(
    broker: Option<asynqueue_core::broker::SharedBroker>,
    ready_if: Option<ReadyIf>,
) -> (StatusCode, String) {
    if let Some(ReadyIf(check)) = ready_if
        && let Err(reason) = check()
    {
        return response(Err(reason));
    }
    match broker {
        Some(broker) => response(in_time(broker.ping()).await),
        None => response(Ok(())),
    }
}

/// The outcome of a ping. The error is the reason for the caller.
pub(crate) async fn in_time(
    ping: impl Future<Output = Result<(), BrokerError>>,
) -> Result<(), String> {
    match tokio::time::timeout(TIMEOUT, ping).await {
        Ok(ponged) => ponged.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the broker did not respond within {TIMEOUT:?}")),
    }
}

/// The response to a probe.
pub(crate) fn response(ready: Result<(), String>) -> (StatusCode, String) {
    match ready {
        Ok(()) => (StatusCode::OK, "ok\n".into()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}
