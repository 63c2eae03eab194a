//! What this process counts and what its broker knows, as Prometheus reads it.

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

/// How long the broker may take to tell of its queues: Prometheus waits for ten seconds by default.
const COLLECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often what was measured is put into its buckets; until then each measurement takes memory of its own.
const UPKEEP: Duration = Duration::from_secs(1);

/// Tells of a process and its broker in the text format of Prometheus.
#[derive(Clone, Debug)]
pub struct Exporter {
    process: PrometheusHandle,
    broker: Option<SharedBroker>,
    max_queues: Option<usize>,
    ready_if: Option<ReadyIf>,
}

/// What readiness depends on besides the broker.
#[derive(Clone)]
pub(crate) struct ReadyIf(pub(crate) Arc<dyn Fn() -> Result<(), String> + Send + Sync>);

impl fmt::Debug for ReadyIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadyIf(…)")
    }
}

/// Installs a recorder for the `metrics` facade, and exports it. Called again, it exports the same.
///
/// # Errors
///
/// When the program has installed another recorder.
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
    // A thread, since what is measured must not depend on a runtime that may end or stall; it lives as long as the recorder.
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
        tracing::error!(%error, "measurements take memory until they are scraped, for no thread could be started");
    }
    *installed = Some(handle.clone());
    Ok(Exporter::new(handle))
}

/// A recorder to be installed by yourself, with asynqueue's [buckets](BUCKETS) and whatever else you set. What it measures
/// takes memory until it is rendered or its [upkeep](PrometheusHandle::run_upkeep) is run.
pub fn prometheus() -> PrometheusBuilder {
    let histograms = [
        "asynqueue_task_waiting_seconds",
        "asynqueue_task_handling_seconds",
    ];
    histograms
        .into_iter()
        .fold(PrometheusBuilder::new(), |builder, name| {
            // Refused only if there are no buckets.
            let with_buckets = builder.set_buckets_for_metric(Matcher::Full(name.into()), &BUCKETS);
            with_buckets.unwrap_or_default()
        })
}

impl Exporter {
    /// Exports a recorder that the program has installed by itself: see [`prometheus`].
    pub fn new(process: PrometheusHandle) -> Self {
        Self {
            process,
            broker: None,
            max_queues: None,
            ready_if: None,
        }
    }

    /// Tells of this broker's queues too, which it is asked for at each scrape; and readiness depends on it.
    #[must_use]
    pub fn broker(mut self, broker: impl Into<SharedBroker>) -> Self {
        self.broker = Some(broker.into());
        self
    }

    /// Tells of at most so many queues: see [`QueueMetrics::max_queues`].
    #[must_use]
    pub fn max_queues(mut self, max: usize) -> Self {
        self.max_queues = Some(max);
        self
    }

    /// Lets `/readyz` fail with a reason of your own, as while the program starts or stops. It is asked at each request, before the
    /// broker is.
    #[must_use]
    pub fn ready_if(
        mut self,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.ready_if = Some(ReadyIf(Arc::new(check)));
        self
    }

    /// Everything as text, for a route of your own. If the broker does not answer, its queues are left out and
    /// `asynqueue_broker_up` is 0.
    pub async fn render(&self) -> String {
        let mut text = self.process.render();
        if let Some(broker) = &self.broker {
            text.push_str(&self.render_queues(broker).await);
        }
        text
    }

    /// A recorder of each scrape's own, so that a queue that is deleted is not told of for ever.
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
                "1 if the broker has told of its queues"
            );
            describe_gauge!(
                "asynqueue_collect_seconds",
                "How long the broker took to tell of its queues"
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

    /// `/metrics`, `/livez` and `/readyz`, to be merged into a router of your own. Whoever can reach them sees the names of
    /// queues and events.
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
    /// Serves [`router`](Self::router) at an address of its own, such as `127.0.0.1:9464`, and logs it at the level `info`.
    ///
    /// # Errors
    ///
    /// When nothing can listen there.
    pub async fn serve(
        &self,
        address: impl ToSocketAddrs + fmt::Display,
    ) -> Result<Endpoint, ServeError> {
        let endpoint = Endpoint::serve(address, |_| Ok(()), self.router()).await?;
        let url = format!("http://{}/metrics", endpoint.address());
        tracing::info!(%url, "metrics and health listen");
        Ok(endpoint)
    }
}

fn prometheus_text(text: String) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
}
