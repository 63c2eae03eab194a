//! Starting the parts of an app, one after another.

use std::future::Future;
#[cfg(feature = "metrics-exporter")]
use std::sync::Arc;

use asynqueue_core::outbox::Relay;

use super::{App, AppError, AppHandle, handle::Phase, parts::Parts};

/// Starts all parts, or none: if one fails, or `shutdown` completes first, the parts already running are stopped. In
/// the latter case it returns the output of `shutdown`.
pub(super) async fn start_unless<T>(
    app: App,
    shutdown: impl Future<Output = T>,
) -> Result<Result<AppHandle, T>, AppError> {
    let mut handle = AppHandle::new(app.broker.clone(), app.closes_broker);
    let started = tokio::select! {
        started = start_parts(app, &mut handle) => Ok(started),
        output = shutdown => Err(output),
    };
    match started {
        Ok(Ok(())) => {
            handle.phase.set(Phase::RUNNING);
            Ok(Ok(handle))
        }
        Ok(Err(error)) => {
            // An error of stopping adds nothing to the reason.
            drop(handle.shutdown().await);
            Err(error)
        }
        Err(output) => handle.shutdown().await.map(|()| Err(output)),
    }
}

async fn start_parts(app: App, handle: &mut AppHandle) -> Result<(), AppError> {
    let App { server, parts, .. } = app;
    start_endpoints(&parts, handle).await?;
    handle.server = Some(server.start().await?);
    #[cfg(feature = "scheduler")]
    if parts.scheduler.is_wanted() {
        handle.scheduler = Some(parts.scheduler.builder.start().await?);
        tracing::info!("scheduler started");
    }
    for outbox in parts.outboxes {
        let relay = Relay::new(handle.broker.clone(), outbox);
        handle.relays.push(relay.start());
    }
    Ok(())
}

async fn start_endpoints(parts: &Parts, handle: &mut AppHandle) -> Result<(), AppError> {
    // Some programs are built without any part.
    let _ = (parts, &handle);
    #[cfg(feature = "metrics-exporter")]
    if let Some(address) = &parts.metrics.address {
        let phase = Arc::clone(&handle.phase);
        let exporter = asynqueue_monitor::metrics::install()?
            .broker(handle.broker.clone())
            .ready_if(move || phase.ready());
        let exporter = match parts.metrics.max_queues {
            Some(max) => exporter.max_queues(max),
            None => exporter,
        };
        let serving = exporter.serve(address.as_str()).await;
        handle.metrics = Some(serving.map_err(asynqueue_monitor::metrics::MetricsError::from)?);
    }
    #[cfg(feature = "monitor")]
    if let Some(address) = &parts.monitor.address {
        let serving = parts.monitor.monitor.serve(address.as_str()).await;
        handle.monitor = Some(serving?);
    }
    Ok(())
}
