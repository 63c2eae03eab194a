//! Why metrics cannot be told.

use crate::ServeError;

/// Metrics cannot be installed or served.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The `metrics` facade has a recorder already.
    #[error(
        "this program has installed another recorder for the `metrics` facade: pass its `PrometheusHandle` to \
         `Exporter::new`, or scrape it where it is served"
    )]
    OtherRecorder,
    /// Nothing can be served there.
    #[error("metrics: {0}")]
    Serve(#[from] ServeError),
}

asynqueue_core::debug_as_text!(MetricsError);
