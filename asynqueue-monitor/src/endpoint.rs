//! An address of its own.

use std::{fmt, io, net::SocketAddr, time::Duration};

use axum::{Router, serve::ListenerExt};
use tokio::{
    net::{TcpListener, ToSocketAddrs},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// How long answers that go on are waited for.
const LATE: Duration = Duration::from_secs(1);

/// Serves until it is shut down or dropped.
#[derive(Debug)]
#[must_use = "nothing is served once this is dropped"]
pub struct Endpoint {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

/// Something cannot be served.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Nothing can listen there.
    #[error(
        "cannot listen at `{address}`: {source}; expected a free address such as `127.0.0.1:9464`"
    )]
    Bind {
        /// The address.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// Others than this machine could reach a monitor that lets everyone in.
    #[error(
        "the monitor would let everyone who reaches {address} do everything: add a user, or set `open_to_all` if that is intended"
    )]
    Unguarded {
        /// The address.
        address: SocketAddr,
    },
    /// A password that cannot be used.
    #[error("{0}")]
    Password(String),
    /// An address of Prometheus that cannot be used.
    #[error(
        "`{url}` is not the address of a Prometheus server: {reason}; expected one such as `http://prometheus:9090`"
    )]
    Prometheus {
        /// The address, without a name and a password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting of a configuration that cannot be used.
    #[error("`monitoring.{key}`: {problem}")]
    Setting {
        /// The key in the section `monitoring`.
        key: String,
        /// What is wrong, and what to do.
        problem: String,
    },
}

asynqueue_core::debug_as_text!(ServeError);

impl Endpoint {
    /// Serves a router at an address that `check` finds fit.
    pub(crate) async fn serve(
        address: impl ToSocketAddrs + fmt::Display,
        check: impl FnOnce(&SocketAddr) -> Result<(), ServeError>,
        router: Router,
    ) -> Result<Self, ServeError> {
        let named = address.to_string();
        let bound = TcpListener::bind(address).await;
        let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.map_err(|source| ServeError::Bind {
            address: named,
            source,
        })?;
        check(&address)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        // Small answers are to leave at once.
        let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let server = axum::serve(listener, service).with_graceful_shutdown(stopped);
        let late = stop.clone();
        let late = async move {
            late.cancelled_owned().await;
            tokio::time::sleep(LATE).await;
        };
        let serving = tokio::spawn(async move {
            tokio::select! {
                ended = server => if let Err(error) = ended {
                    tracing::error!(%error, %address, "served no longer");
                },
                // Whoever follows live figures would never be through.
                () = late => {}
            }
        });
        Ok(Self {
            address,
            stop,
            serving,
        })
    }

    /// Where it listens, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers what has been asked, for a second at most, and stops.
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
