//! What keeps an app from running.

use asynqueue_core::server::ServerError;

use crate::ConnectError;

/// An app could not start, or had to stop. The message names the part.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// The configuration asks for a part that this program is built without.
    #[error(
        "`{key}` is set, but this program is built without that part: turn on the feature `{feature}` of asynqueue, or remove the \
         key"
    )]
    Feature {
        /// The key of the configuration.
        key: &'static str,
        /// The feature to turn on.
        feature: &'static str,
    },
    /// The broker cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server could not start, or had to stop.
    #[error("the server: {0}")]
    Server(#[from] ServerError),
    /// The scheduler could not start, or had to stop.
    #[cfg(feature = "scheduler")]
    #[error("the scheduler: {0}")]
    Scheduler(#[from] asynqueue_core::scheduler::ScheduleError),
    /// Metrics and health cannot be served.
    #[cfg(feature = "metrics-exporter")]
    #[error(transparent)]
    Metrics(#[from] asynqueue_monitor::metrics::MetricsError),
    /// The web monitor cannot be served.
    #[cfg(feature = "monitor")]
    #[error("the web monitor: {0}")]
    Monitor(#[from] asynqueue_monitor::ServeError),
}

asynqueue_core::debug_as_text!(AppError);
