//! The metrics of this process and of its broker, in the Prometheus text format.

use std::{
    fmt,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::SharedBroker,
    metrics::{BUCKETS, QueueMetrics, describe},
};
use axum::{Router, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use metrics::{describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;
use tokio::net::ToSocketAddrs;

use super::MetricsError;
use crate::{Endpoint, ServeError, health};

/// How long the broker may take to return its queue statistics. Prometheus gives up on a scrape after ten seconds by
/// default.
const COLLECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often samples are moved into their buckets. Until then, each sample takes memory.
const UPKEEP: Duration = Duration::from_secs(1);

/// Exports the metrics of a process and its broker in the Prometheus text format.
#[derive(Clone, Debug)]
pub struct Exporter {
    process: PrometheusHandle,
    broker: Option<SharedBroker>,
    max_queues: Option<usize>,
    ready_if: Option<ReadyIf>,
}

/// A readiness check of the program, in addition to the broker's.
#[derive(Clone)]
pub(crate) struct ReadyIf(pub(crate) Arc<dyn Fn() -> Result<(), String> + Send + Sync>);

impl fmt::Debug for ReadyIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadyIf(…)")
    }
}

/// Installs a global recorder for the `metrics` facade and returns an exporter for it. Later calls return an exporter
/// for the same recorder.
///
/// # Errors
///
/// [`MetricsError::OtherRecorder`] if the program has already installed another recorder.
pub fn install() -> Result<Exporter, MetricsError> {
    static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut installed = INSTALLED.lock();
    if let Some(handle) = &*installed {
        return Ok(Exporter::new(handle.clone()));
    }
    let recorder = prometheus().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| MetricsError::OtherRecorder)?;
    describe();
    let measured = handle.clone();
    // A thread rather than a task: the runtime may end or stall. The thread lives as long as the recorder.
    let upkeep = move || {
        loop {
            thread::sleep(UPKEEP);
            measured.run_upkeep();
        }
    };
    let spawned = thread::Builder::new()
        .name("asynqueue-metrics".into())
        .spawn(upkeep);
    if let Err(error) = spawned {
        tracing::error!(%error, "cannot start the thread for metrics upkeep; samples take memory until the next scrape");
    }
    *installed = Some(handle.clone());
    Ok(Exporter::new(handle))
}

/// A recorder builder with asynqueue's [buckets](BUCKETS), for programs that install the recorder themselves. Samples
/// take memory until the recorder is rendered or its [upkeep](PrometheusHandle::run_upkeep) runs.
pub fn prometheus() -> PrometheusBuilder {
    let histograms = [
        "asynqueue_task_waiting_seconds",
        "asynqueue_task_handling_seconds",
    ];
    histograms
        .into_iter()
        .fold(PrometheusBuilder::new(), |builder, name| {
            // Fails only for an empty list of buckets.
            let with_buckets = builder.set_buckets_for_metric(Matcher::Full(name.into()), &BUCKETS);
            with_buckets.unwrap_or_default()
        })
}

impl Exporter {
    /// Exports a recorder that the program installed itself: see [`prometheus`].
    pub fn new(process: PrometheusHandle) -> Self {
        Self {
            process,
            broker: None,
            max_queues: None,
            ready_if: None,
        }
    }

    /// Also exports the statistics of this broker's queues, which each scrape reads, and makes `/readyz` depend on the
    /// broker.
    #[must_use]
    pub fn broker(mut self, broker: impl Into<SharedBroker>) -> Self {
        self.broker = Some(broker.into());
        self
    }

    /// Limits the number of exported queues: see [`QueueMetrics::max_queues`].
    #[must_use]
    pub fn max_queues(mut self, max: usize) -> Self {
        self.max_queues = Some(max);
        self
    }

    /// Adds a check to `/readyz`, which fails with the returned reason, for example while the program starts or stops.
    /// The check runs on each request, before the broker is checked.
    #[must_use]
    pub fn ready_if(
        mut self,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.ready_if = Some(ReadyIf(Arc::new(check)));
        self
    }

    /// Renders all metrics as text, for use in a custom route. If the broker does not respond, its queues are missing
    /// and `asynqueue_broker_up` is 0.
    pub async fn render(&self) -> String {
        let mut text = self.process.render();
        if let Some(broker) = &self.broker {
            text.push_str(&self.render_queues(broker).await);
        }
        text
    }

    /// Each scrape uses a new recorder, so that deleted queues disappear from the output.
    async fn render_queues(&self, broker: &SharedBroker) -> String {
        let mut queues = QueueMetrics::new(broker.clone());
        if let Some(max) = self.max_queues {
            queues = queues.max_queues(max);
        }
        let started = Instant::now();
        let collected = tokio::time::timeout(COLLECT_TIMEOUT, queues.collect()).await;
        let recorder = PrometheusBuilder::new().build_recorder();
        with_local_recorder(&recorder, || {
            describe_gauge!(
                "asynqueue_broker_up",
                "1 if the broker returned its queue statistics, otherwise 0"
            );
            describe_gauge!(
                "asynqueue_collect_seconds",
                "Seconds the broker took to return its queue statistics"
            );
            gauge!("asynqueue_collect_seconds").set(started.elapsed().as_secs_f64());
            let snapshot = collected.ok().and_then(Result::ok);
            gauge!("asynqueue_broker_up").set(f64::from(u8::from(snapshot.is_some())));
            if let Some(snapshot) = snapshot {
                snapshot.record();
            }
        });
        recorder.handle().render()
    }

    /// The routes `/metrics`, `/livez` and `/readyz`, to be merged into an existing router. They require no
    /// authentication and expose the names of queues and events.
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let (exporter, broker) = (self.clone(), self.broker.clone());
        let scrape = move || {
            let exporter = exporter.clone();
            async move { prometheus_text(exporter.render().await) }
        };
        let ready_if = self.ready_if.clone();
        let ready = move || health::ready(broker.clone(), ready_if.clone());
        Router::new()
            .route("/metrics", get(scrape))
            .route("/livez", get(health::live))
            .route("/readyz", get(ready))
    }
}

impl Exporter {
    /// Serves [`router`](Self::router) on a separate address, such as `127.0.0.1:9464`, and logs its URL at level
    /// `info`.
    ///
    /// # Errors
    ///
    /// [`ServeError::Bind`] if the address is invalid or in use.
    pub async fn serve(
        &self,
        address: impl ToSocketAddrs + fmt::Display,
    ) -> Result<Endpoint, ServeError> {
        let endpoint = Endpoint::serve(address, |_| Ok(()), self.router()).await?;
        let url = format!("http://{}/metrics", endpoint.address());
        tracing::info!(%url, "metrics and health endpoints listening");
        Ok(endpoint)
    }
}

fn prometheus_text(text: String) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
}
