//! Liveness and readiness.

use std::time::Duration;

use asynqueue_core::broker::SharedBroker;
use axum::http::StatusCode;

use crate::metrics::ReadyIf;

/// How long the broker may take to respond.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Always `200`: a response proves that the runtime still runs.
pub(crate) async fn live() -> &'static str {
    "ok\n"
}

/// `200` if the program's own check passes and the broker responds, otherwise `503` with the reason.
pub(crate) async fn ready(
    broker: Option<SharedBroker>,
    ready_if: Option<ReadyIf>,
) -> (StatusCode, String) {
    if let Some(ReadyIf(check)) = ready_if
        && let Err(reason) = check()
    {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"));
    }
    let Some(broker) = broker else {
        return (StatusCode::OK, "ok\n".into());
    };
    let problem = match tokio::time::timeout(TIMEOUT, broker.ping()).await {
        Ok(Ok(())) => return (StatusCode::OK, "ok\n".into()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the broker did not respond within {TIMEOUT:?}"),
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n"))
}
