//! Metrics on an address of their own.

use std::{fmt, net::SocketAddr};

use axum::serve::ListenerExt;
use tokio::{
    net::{TcpListener, ToSocketAddrs},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{Exporter, MetricsError};

/// Serves `/metrics`, `/livez` and `/readyz` until it is shut down or dropped.
#[derive(Debug)]
#[must_use = "nothing is served once this is dropped"]
pub struct Endpoint {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Exporter {
    /// Serves [`router`](Self::router) at an address of its own, such as `127.0.0.1:9464`.
    ///
    /// # Errors
    ///
    /// When nothing can listen there.
    pub async fn serve(
        &self,
        address: impl ToSocketAddrs + fmt::Display,
    ) -> Result<Endpoint, MetricsError> {
        let named = address.to_string();
        let bound = TcpListener::bind(address).await;
        let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.map_err(|source| MetricsError::Bind {
            address: named,
            source,
        })?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        // Small answers are to leave at once.
        let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
        let server = axum::serve(listener, self.router()).with_graceful_shutdown(stopped);
        let serving = tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "metrics are served no longer");
            }
        });
        Ok(Endpoint {
            address,
            stop,
            serving,
        })
    }
}

impl Endpoint {
    /// Where it listens, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers what has been asked, and stops.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        // It ends by itself; a panic in it has been told of.
        let _ = (&mut self.serving).await;
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
