//! Errors of installing and serving metrics.

use crate::ServeError;

/// The metrics recorder cannot be installed, or the metrics cannot be served.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The program has already installed another recorder for the `metrics` facade.
    #[error(
        "another recorder is already installed for the `metrics` facade: pass its `PrometheusHandle` to \
         `Exporter::new`, or scrape that recorder instead"
    )]
    OtherRecorder,
    /// The endpoint cannot be served.
    #[error("metrics: {0}")]
    Serve(#[from] ServeError),
}

asynqueue_core::debug_as_text!(MetricsError);
