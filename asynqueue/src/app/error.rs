//! Errors of starting and running an app.

use asynqueue_core::{outbox::RelayError, server::ServerError};

use crate::ConnectError;

/// Why an app could not start, or had to stop. The message names the part.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// The configuration needs a part that this program is built without.
    #[error(
        "`{key}` is set, but this program is built without that part: enable the feature `{feature}` of asynqueue, or remove the \
             key"
    )]
    Feature {
        /// The key in the configuration, such as `scheduler.file`.
        key: &'static str,
        /// The feature of `asynqueue` to enable.
        feature: &'static str,
    },
    /// The broker could not be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server could not start, or had to stop.
    #[error("the server: {0}")]
    Server(#[from] ServerError),
    /// A relay of an outbox had to stop.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// The scheduler could not start, or had to stop.
    #[cfg(feature = "scheduler")]
    #[error("the scheduler: {0}")]
    Scheduler(#[from] asynqueue_core::scheduler::ScheduleError),
    /// Metrics and health could not be served.
    #[cfg(feature = "metrics-exporter")]
    #[error(transparent)]
    Metrics(#[from] asynqueue_monitor::metrics::MetricsError),
    /// The web monitor could not be served.
    #[cfg(feature = "monitor")]
    #[error("the web monitor: {0}")]
    Monitor(#[from] asynqueue_monitor::ServeError),
}

asynqueue_core::debug_as_text!(AppError);
