//! A listener with its own address.

use std::{fmt, io, net::SocketAddr, time::Duration};

use axum::Router;
use tokio::{
    net::{TcpListener, ToSocketAddrs},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::connections::{Limits, serve};

/// How long a shutdown waits for open responses.
const GRACE: Duration = Duration::from_secs(1);

/// A running HTTP server. It stops when [`shutdown`](Self::shutdown) is called or when it is dropped.
#[derive(Debug)]
#[must_use = "the endpoint stops when it is dropped"]
pub struct Endpoint {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

/// The monitor or the metrics cannot be served.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is invalid or in use.
    #[error("cannot listen on `{address}`: {}", cannot_listen(address, error))]
    Bind {
        /// The requested address.
        address: String,
        /// The error of the operating system. The message contains it, so it is not a `source`.
        error: io::Error,
    },
    /// A monitor without users would be reachable from other machines.
    #[error(
        "the monitor on {address} would give full access to anyone who can reach it: add a user, or set `open_to_all` if this is intended"
    )]
    Unguarded {
        /// The address that the monitor was bound to.
        address: SocketAddr,
    },
    /// A user name or password is invalid.
    #[error("{0}")]
    Password(String),
    /// A broker of several cannot be served.
    #[error("broker `{name}`: {problem}")]
    Broker {
        /// The name of the broker.
        name: String,
        /// The problem and its fix.
        problem: String,
    },
    /// The color of the installation is invalid.
    #[error(
        "`{0}` is not a color: expected one such as `#b3261e`, or `red`, `orange`, `brown`, `green`, `teal`, `blue`, `purple` or `gray`"
    )]
    Color(String),
    /// The URL of the Prometheus server is invalid.
    #[error(
        "`{url}` is not a valid Prometheus URL: {reason}; expected one such as `http://prometheus:9090`"
    )]
    Prometheus {
        /// The URL without its credentials.
        url: String,
        /// Why it is invalid.
        reason: String,
    },
    /// The URL of a webhook is invalid. It is not shown, because it often contains a password.
    #[error(
        "the URL of a webhook is invalid: {reason}; expected one such as `https://hooks.example.com/path`"
    )]
    Webhook {
        /// Why it is invalid.
        reason: String,
    },
    /// A setting in the configuration section `monitoring` is invalid.
    #[error("`monitoring.{key}`: {problem}")]
    Setting {
        /// The key, relative to `monitoring`.
        key: String,
        /// The problem and its fix.
        problem: String,
    },
}

asynqueue_core::debug_as_text!(ServeError);

/// Why an address cannot be used, and the fix.
fn cannot_listen(address: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "address already in use: stop the other program, or choose another address".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have the address: use one that it has, or `0.0.0.0` for all"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied: use a port of 1024 or higher".to_owned()
        }
        // Text without a port or a host, or with an invalid port.
        kind if kind == io::ErrorKind::InvalidInput || address.starts_with(':') => {
            let port = address.trim_start_matches(':').parse().unwrap_or(8080_u16);
            format!("expected a host and a port, such as `127.0.0.1:{port}`")
        }
        _ => format!("{error}: check the host and the port"),
    }
}

impl Endpoint {
    /// Serves a router on an address that passes `check`.
    pub(crate) async fn serve(
        address: impl ToSocketAddrs + fmt::Display,
        check: impl FnOnce(&SocketAddr) -> Result<(), ServeError>,
        router: Router,
    ) -> Result<Self, ServeError> {
        let named = address.to_string();
        let bound = TcpListener::bind(address).await;
        let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.map_err(|error| ServeError::Bind {
            address: named,
            error,
        })?;
        check(&address)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let server = serve(listener, router, Limits::default(), stop.clone());
        let grace_is_over = async move {
            stopped.await;
            tokio::time::sleep(GRACE).await;
        };
        let serving = tokio::spawn(async move {
            tokio::select! {
                () = server => {}
                // The event stream of an open page never ends, so a graceful shutdown alone could wait forever.
                () = grace_is_over => {}
            }
        });
        Ok(Self {
            address,
            stop,
            serving,
        })
    }

    /// The address it listens on. For port 0, this contains the port that the operating system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting requests, waits up to one second for open responses, and stops.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        // The task ends by itself; the panic hook has reported a panic in it.
        let _ = (&mut self.serving).await;
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
