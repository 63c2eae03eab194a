//! Why metrics cannot be told.

use std::io;

/// Metrics cannot be installed or served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The `metrics` facade has a recorder already.
    #[error(
        "this program has installed another recorder for the `metrics` facade: pass its `PrometheusHandle` to \
         `Exporter::new`, or scrape it where it is served"
    )]
    OtherRecorder,
    /// Nothing can listen there.
    #[error(
        "metrics cannot be served at `{address}`: {source}; expected a free address such as `127.0.0.1:9464`"
    )]
    Bind {
        /// The address.
        address: String,
        /// What the system says.
        source: io::Error,
    },
}
