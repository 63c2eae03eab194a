//! Metrics for Prometheus: on an address of their own, in a router of yours, or as text.
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

/// Serves the metrics of this process at `/metrics`, with `/livez` and `/readyz` beside them. For the queues' figures too, and
/// for readiness to mean more, [`install`] an exporter and name its [broker](Exporter::broker).
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
/// When another recorder is installed, or nothing can listen at the address.
pub async fn serve(address: impl ToSocketAddrs + fmt::Display) -> Result<Endpoint, MetricsError> {
    Ok(install()?.serve(address).await?)
}
