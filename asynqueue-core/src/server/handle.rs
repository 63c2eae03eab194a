//! A server in the background.

use std::sync::{Arc, atomic::Ordering};

use tokio::task::JoinHandle;

use super::{Server, ServerError, Shared};
use crate::{ambient, broker::BrokerError, task::Name};

/// A running server. When it is dropped the server shuts down in the background, as it does at
/// [`shutdown`](Self::shutdown).
#[derive(Debug)]
#[must_use = "the server shuts down when this is dropped"]
pub struct ServerHandle {
    shared: Arc<Shared>,
    running: Option<JoinHandle<Result<(), ServerError>>>,
}

/// A running server's figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Tasks that run now.
    pub running: usize,
    /// Slots that are open: the concurrency, less what abandoned handlers take.
    pub slots: usize,
    /// Handlers that go on though their slot was given up.
    pub abandoned: usize,
    /// Attempts that have ended.
    pub finished: u64,
    /// Outcomes that the broker refused, since their lease had ended.
    pub stale: u64,
    /// Tasks of lost workers that this server took back.
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

    /// The server's name among all that work for the broker.
    pub fn name(&self) -> &Name {
        &self.shared.worker
    }

    /// The figures now.
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

    /// Whether the broker answers.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn health(&self) -> Result<(), BrokerError> {
        self.shared.broker.ping().await
    }

    /// Stops leasing tasks, or resumes it. A quiet server finishes what it runs and gives back what has not started; it
    /// keeps its leases, and its upkeep of the queues, as it did. For the time before a deploy, or to look into a server
    /// that still runs. Also by SIGUSR1, where [`shutdown_signal`](crate::server::shutdown_signal) receives signals, and from outside by
    /// [`Inspector::set_server_quiet`](crate::inspector::Inspector::set_server_quiet). The latest of them wins, by the broker's clock.
    pub fn set_quiet(&self, quiet: bool) {
        self.shared.set_quiet(quiet);
    }

    /// Whether it is [quiet](Self::set_quiet).
    pub fn is_quiet(&self) -> bool {
        self.shared.quiet.is_on()
    }

    /// Shuts down gracefully, as [`Server::run`] does.
    ///
    /// # Errors
    ///
    /// When the server had to stop because the broker was closed or panicked.
    pub async fn shutdown(mut self) -> Result<(), ServerError> {
        self.shared.stopping.cancel();
        self.ended().await
    }

    /// Waits until the server stops by itself, which it does when the broker is closed or panics.
    ///
    /// # Errors
    ///
    /// The reason.
    pub async fn ended(&mut self) -> Result<(), ServerError> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let ended = running
            .await
            .unwrap_or_else(|error| Err(ServerError::panicked(&error)));
        // Only now: whoever stops waiting here may wait again, or shut down.
        self.running = None;
        ended
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.shared.stopping.cancel();
    }
}
