//! A server that runs in the background.

use std::sync::{Arc, atomic::Ordering};

use tokio::task::JoinHandle;

use super::{Server, ServerError, Shared};
use crate::{ambient, broker::BrokerError, task::Name};

/// A running server. Dropping the handle shuts the server down in the background, as [`shutdown`](Self::shutdown) does.
#[derive(Debug)]
#[must_use = "the server shuts down when this is dropped"]
pub struct ServerHandle {
    shared: Arc<Shared>,
    running: Option<JoinHandle<Result<(), ServerError>>>,
}

/// Counters and gauges of a running server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Tasks whose handlers are running.
    pub running: usize,
    /// Open slots: the concurrency, less the slots taken by abandoned handlers.
    pub slots: usize,
    /// Handlers that are still running after their slot was abandoned.
    pub abandoned: usize,
    /// Attempts that have ended since the start.
    pub finished: u64,
    /// Outcomes that the broker refused because the lease had expired.
    pub stale: u64,
    /// Tasks of lost workers that this server reclaimed.
    pub reclaimed: u64,
}

impl ServerHandle {
    pub(super) fn start(server: Server) -> Self {
        let shared = Arc::clone(&server.shared);
        let running = tokio::spawn(ambient::here(server.run(std::future::pending())));
        Self {
            shared,
            running: Some(running),
        }
    }

    /// The server's name, unique among the servers of the broker.
    pub fn name(&self) -> &Name {
        &self.shared.worker
    }

    /// Returns the current figures.
    pub fn stats(&self) -> ServerStats {
        let counters = &self.shared.counters;
        ServerStats {
            running: self.shared.slots.busy(),
            slots: self.shared.slots.open(),
            abandoned: self.shared.slots.abandoned(),
            finished: counters.finished.load(Ordering::Relaxed),
            stale: counters.stale.load(Ordering::Relaxed),
            reclaimed: counters.reclaimed.load(Ordering::Relaxed),
        }
    }

    /// Checks whether the broker responds.
    ///
    /// # Errors
    ///
    /// If it does not respond.
    pub async fn health(&self) -> Result<(), BrokerError> {
        self.shared.broker.ping().await
    }

    /// Stops leasing tasks, or resumes it. A quiet server finishes its running tasks and releases the tasks that have
    /// not started. It keeps its leases and continues the upkeep of the queues. Use it before a deploy, or to inspect a
    /// server while it still runs.
    ///
    /// SIGUSR1 does the same where [`shutdown_signal`](crate::server::shutdown_signal) listens for signals, and
    /// [`Inspector::set_server_quiet`](crate::inspector::Inspector::set_server_quiet) does it remotely. The latest
    /// request wins, by the broker's clock.
    pub fn set_quiet(&self, quiet: bool) {
        self.shared.set_quiet(quiet);
    }

    /// Whether the server is [quiet](Self::set_quiet).
    pub fn is_quiet(&self) -> bool {
        self.shared.quiet.is_on()
    }

    /// Shuts down gracefully, as [`Server::run`] does.
    ///
    /// # Errors
    ///
    /// If the server had to stop because the broker was closed or an internal task panicked.
    pub async fn shutdown(mut self) -> Result<(), ServerError> {
        self.shared.stopping.cancel();
        self.ended().await
    }

    /// Waits until the server stops without a request, because the broker is closed or an internal task panics.
    ///
    /// # Errors
    ///
    /// Why it stopped.
    pub async fn ended(&mut self) -> Result<(), ServerError> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let ended = running
            .await
            .unwrap_or_else(|error| Err(ServerError::panicked(&error)));
        // Not earlier: a caller that stops waiting here may wait again, or shut down.
        self.running = None;
        ended
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.shared.stopping.cancel();
    }
}
