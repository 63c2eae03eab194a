//! CPU time per task added by metrics and traces: `cargo bench -p asynqueue --features metrics-exporter,otel --bench overhead`.
//!
//! A no-op handler and a 100-byte payload on the in-memory broker; tasks are enqueued in bulk and one by one, and run.
//! Each variant runs in its own process, in turns, because a recorder and a subscriber cannot be removed again. The
//! result is the CPU time of the complete process per task, the median of the rounds. Measurements are recorded in
//! histograms; spans are created and not exported.

mod work;

use std::{env, process::Command, time::Duration};

use asynqueue::{MemoryBroker, broker::SharedBroker, metrics, prelude::*};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use tracing::{Instrument, info_span};
use tracing_subscriber::{filter::filter_fn, prelude::*};

use self::work::{Noop, cpu_time, drain};

const TASKS: u64 = 300_000;
const ROUNDS: usize = 5;
const VARIANTS: [&str; 5] = [
    "nothing",
    "metrics",
    "metrics, traces not sampled",
    "metrics, unsampled left out",
    "metrics, traces sampled",
];

fn main() {
    match env::var("OVERHEAD_OF") {
        Ok(variant) => measure(&variant),
        Err(_) => compare(),
    }
}

/// Runs the variants in turns, and prints what each adds to the first.
fn compare() {
    let mut figures = vec![(Vec::new(), Vec::new()); VARIANTS.len()];
    for _ in 0..ROUNDS {
        for (variant, (bulk, single)) in VARIANTS.iter().zip(&mut figures) {
            let this = env::current_exe().expect("a path");
            let run = Command::new(this)
                .env("OVERHEAD_OF", variant)
                .output()
                .expect("runs");
            let text = String::from_utf8_lossy(&run.stdout);
            let mut nanos = text
                .split_whitespace()
                .map(|n| n.parse::<i64>().expect("a number"));
            bulk.push(nanos.next().expect("two numbers"));
            single.push(nanos.next().expect("two numbers"));
        }
    }
    println!(
        "{:<30} {:>20} {:>20}",
        "CPU time a task", "in bulk", "one by one"
    );
    let mut bare = None;
    for (variant, (bulk, single)) in VARIANTS.iter().zip(figures) {
        let (bulk, single) = (median(bulk), median(single));
        let (bare_bulk, bare_single) = *bare.get_or_insert((bulk, single));
        println!(
            "{variant:<30} {:>20} {:>20}",
            format!("{bulk} ns ({:+})", bulk - bare_bulk),
            format!("{single} ns ({:+})", single - bare_single)
        );
    }
}

fn median(mut figures: Vec<i64>) -> i64 {
    figures.sort_unstable();
    figures[figures.len() / 2]
}

fn measure(variant: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let _inside = runtime.enter();
    if variant.contains("metrics") {
        metrics::install().expect("the first");
    }
    if variant.contains("sampled") {
        trace(
            if variant.contains("traces sampled") {
                Sampler::AlwaysOn
            } else {
                Sampler::AlwaysOff
            },
            variant.contains("left out"),
        );
    }
    let bulk = cpu_per_task(|| {
        runtime.block_on(async {
            let broker = SharedBroker::from(MemoryBroker::new());
            let tasks = (0..TASKS).map(|_| Noop::new());
            Producer::new(broker.clone()).enqueue_many(tasks).await;
            drain(broker).await;
        })
    });
    let single = cpu_per_task(|| {
        // As in the handler of a web request, which has its own span.
        let request = info_span!("request");
        runtime.block_on(
            async {
                let broker = SharedBroker::from(MemoryBroker::new());
                let producer = Producer::new(broker.clone());
                for _ in 0..TASKS {
                    producer.enqueue(Noop::new()).await.expect("accepted");
                }
                drain(broker).await;
            }
            .instrument(request),
        )
    });
    println!("{} {}", bulk.as_nanos(), single.as_nanos());
}

fn trace(sampler: Sampler, leaves_unsampled_out: bool) {
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(sampler)))
        .with_span_processor(Nowhere)
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("bench"));
    let needed = filter_fn(move |metadata| {
        !(leaves_unsampled_out && metadata.target() == "asynqueue::unsampled")
    });
    tracing_subscriber::registry()
        .with(layer.with_filter(needed))
        .init();
}

/// A sink for spans, without the work of an exporter on its own thread.
#[derive(Debug)]
struct Nowhere;

impl SpanProcessor for Nowhere {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, _: SpanData) {}

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn cpu_per_task(work: impl FnOnce()) -> Duration {
    let before = cpu_time();
    work();
    (cpu_time() - before) / TASKS as u32
}
