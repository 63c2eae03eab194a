//! Prometheus metrics: on a separate address, in an existing router, or as text.
//!
//! ```
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use asynqueue_core::memory::MemoryBroker;
//! use asynqueue_monitor::metrics;
//!
//! let broker = MemoryBroker::new();
//! let endpoint = metrics::install()?.broker(broker.clone()).serve("127.0.0.1:0").await?;
//! println!("scrape http://{}/metrics", endpoint.address());
//! # endpoint.shutdown().await;
//! # Ok(()) }
//! ```

mod error;
mod exporter;

use std::fmt;

use tokio::net::ToSocketAddrs;

pub use crate::Endpoint;

pub(crate) use self::exporter::ReadyIf;
pub use self::{
    error::MetricsError,
    exporter::{Exporter, install, prometheus},
};

/// Serves the metrics of this process at `/metrics`, and `/livez` and `/readyz` next to them. To include queue
/// statistics and to make readiness depend on the broker, [`install`] an exporter and set its
/// [broker](Exporter::broker).
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let endpoint = asynqueue_monitor::metrics::serve("127.0.0.1:0").await?;
/// # endpoint.shutdown().await;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// If another recorder is already installed, or if the address is invalid or in use.
pub async fn serve(address: impl ToSocketAddrs + fmt::Display) -> Result<Endpoint, MetricsError> {
    Ok(install()?.serve(address).await?)
}
