//! Whether a process lives, and whether it can do its work.

use std::time::Duration;

use asynqueue_core::broker::SharedBroker;
use axum::http::StatusCode;

/// How long the broker may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// `200` as long as anything answers at all.
pub(crate) async fn live() -> &'static str {
    "ok\n"
}

/// `200` if the broker answers, else `503` with the reason.
pub(crate) async fn ready(broker: Option<SharedBroker>) -> (StatusCode, String) {
    let Some(broker) = broker else {
        return (StatusCode::OK, "ok\n".into());
    };
    let problem = match tokio::time::timeout(TIMEOUT, broker.ping()).await {
        Ok(Ok(())) => return (StatusCode::OK, "ok\n".into()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the broker has not answered within {TIMEOUT:?}"),
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n"))
}
