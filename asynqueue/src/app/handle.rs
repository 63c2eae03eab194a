//! A running app.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

#[cfg(any(feature = "metrics-exporter", feature = "monitor"))]
use std::net::SocketAddr;

use asynqueue_core::{
    broker::SharedBroker, inspector::Inspector, outbox::RelayHandle, producer::Producer,
    server::ServerHandle,
};
#[cfg(any(feature = "metrics-exporter", feature = "monitor"))]
use asynqueue_monitor::Endpoint;

use futures_util::future::{join_all, select_all};

use super::AppError;

/// A running app. Dropping the handle stops all parts in the background, in no particular order;
/// [`shutdown`](Self::shutdown) stops them in order.
#[derive(Debug)]
#[must_use = "the app stops when this is dropped"]
pub struct AppHandle {
    pub(super) broker: SharedBroker,
    closes_broker: bool,
    pub(super) phase: Arc<Phase>,
    pub(super) server: Option<ServerHandle>,
    pub(super) relays: Vec<RelayHandle>,
    #[cfg(feature = "scheduler")]
    pub(super) scheduler: Option<asynqueue_core::scheduler::SchedulerHandle>,
    #[cfg(feature = "metrics-exporter")]
    pub(super) metrics: Option<Endpoint>,
    #[cfg(feature = "monitor")]
    pub(super) monitor: Option<Endpoint>,
}

/// Whether an app is starting, running or stopping.
#[derive(Debug)]
pub(super) struct Phase(AtomicU8);

impl Phase {
    const STARTING: u8 = 0;
    pub(super) const RUNNING: u8 = 1;
    const STOPPING: u8 = 2;

    pub(super) fn set(&self, phase: u8) {
        self.0.store(phase, Ordering::Release);
    }

    /// Returns the reason if the app is not ready.
    #[cfg(feature = "metrics-exporter")]
    pub(super) fn ready(&self) -> Result<(), String> {
        match self.0.load(Ordering::Acquire) {
            Self::STARTING => Err("the program is starting".into()),
            Self::RUNNING => Ok(()),
            _ => Err("the program is shutting down".into()),
        }
    }
}

impl AppHandle {
    pub(super) fn new(broker: SharedBroker, closes_broker: bool) -> Self {
        Self {
            broker,
            closes_broker,
            phase: Arc::new(Phase(AtomicU8::new(Phase::STARTING))),
            server: None,
            relays: Vec::new(),
            #[cfg(feature = "scheduler")]
            scheduler: None,
            #[cfg(feature = "metrics-exporter")]
            metrics: None,
            #[cfg(feature = "monitor")]
            monitor: None,
        }
    }

    /// The running server. `None` after it has stopped.
    pub fn server(&self) -> Option<&ServerHandle> {
        self.server.as_ref()
    }

    /// The address of the metrics and health endpoint, if it is served.
    #[cfg(feature = "metrics-exporter")]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(Endpoint::address)
    }

    /// The address of the web monitor, if it is served.
    #[cfg(feature = "monitor")]
    pub fn monitor_address(&self) -> Option<SocketAddr> {
        self.monitor.as_ref().map(Endpoint::address)
    }

    /// Returns a producer for the app's broker.
    pub fn producer(&self) -> Producer {
        Producer::new(self.broker.clone())
    }

    /// Returns an inspector of the app's broker.
    pub fn inspector(&self) -> Inspector {
        Inspector::new(self.broker.clone())
    }

    /// Waits until the server, the scheduler or a relay stops without a request, because the broker is closed or an internal
    /// task panics.
    ///
    /// # Errors
    ///
    /// Why it stopped.
    pub async fn ended(&mut self) -> Result<(), AppError> {
        let server = async {
            match &mut self.server {
                Some(server) => server.ended().await.map_err(AppError::from),
                None => Ok(()),
            }
        };
        #[cfg(feature = "scheduler")]
        let scheduler = async {
            match &mut self.scheduler {
                Some(scheduler) => scheduler.ended().await.map_err(AppError::from),
                None => std::future::pending().await,
            }
        };
        #[cfg(not(feature = "scheduler"))]
        let scheduler = std::future::pending();
        let relays = async {
            match self.relays.is_empty() {
                true => std::future::pending().await,
                false => {
                    let ended = self.relays.iter_mut().map(|relay| Box::pin(relay.ended()));
                    select_all(ended).await.0.map_err(AppError::from)
                }
            }
        };
        tokio::select! {
            ended = server => ended,
            ended = scheduler => ended,
            ended = relays => ended,
        }
    }

    /// Stops all parts in order: scheduler and relays, server, web monitor, metrics and health. Then closes the broker if the app
    /// connected to it.
    ///
    /// # Errors
    ///
    /// If the server had to stop because the broker was closed or an internal task panicked. The other parts are
    /// stopped anyway.
    pub async fn shutdown(mut self) -> Result<(), AppError> {
        self.phase.set(Phase::STOPPING);
        #[cfg(feature = "scheduler")]
        let scheduler = self.scheduler.take();
        let scheduler = async {
            #[cfg(feature = "scheduler")]
            if let Some(scheduler) = scheduler {
                scheduler.shutdown().await;
                tracing::info!("scheduler stopped");
            }
        };
        let relays = std::mem::take(&mut self.relays);
        let relays = async {
            join_all(relays.into_iter().map(RelayHandle::shutdown)).await;
        };
        let server = self.server.take();
        let server = async {
            match server {
                // The server logs its own stop.
                Some(server) => server.shutdown().await.map_err(AppError::from),
                None => Ok(()),
            }
        };
        // Stop all before waiting for any, so that a call that hangs in one takes no time from the others.
        let ((), (), stopped) = tokio::join!(scheduler, relays, server);
        #[cfg(feature = "monitor")]
        if let Some(monitor) = self.monitor.take() {
            monitor.shutdown().await;
            tracing::info!("web monitor stopped");
        }
        #[cfg(feature = "metrics-exporter")]
        if let Some(metrics) = self.metrics.take() {
            metrics.shutdown().await;
            tracing::info!("metrics and health endpoint stopped");
        }
        if self.closes_broker {
            self.broker.close().await;
            tracing::info!("broker closed");
        }
        stopped
    }
}
