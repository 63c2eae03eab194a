//! Log lines of a handler.

use std::{io, sync::Arc};

use asynqueue_core::{
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::Server,
};
use asynqueue_macros::Task;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{
    Layer, filter::filter_fn, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt,
};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "greet", retention = "1h", crate = asynqueue_core)]
struct Greet;

/// The target of the lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The line that a handler logs, with the fields of its spans; and the trace context of the task.
async fn line(sampler: Option<Sampler>, header: Option<&str>) -> (String, Option<String>) {
    let lines = Lines::default();
    let log = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(lines.clone());
    let provider = sampler.map(|sampler| {
        let provider = SdkTracerProvider::builder().with_sampler(sampler);
        provider.build()
    });
    let traces = provider.as_ref().map(|provider| {
        let traces = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        traces.with_filter(filter_fn(|metadata| {
            metadata.target() != "asynqueue::unsampled"
        }))
    });
    let _subscriber = tracing_subscriber::registry()
        .with(traces)
        .with(log)
        .set_default();

    let broker = MemoryBroker::new();
    let (seen, mut contexts) = tokio::sync::mpsc::unbounded_channel();
    let greet = move |_: Payload<Greet>, ctx: Context| {
        let seen = seen.clone();
        async move {
            tracing::info!("hello");
            let traceparent = ctx.headers().get("traceparent").map(str::to_owned);
            seen.send(traceparent)
                .map_err(|_| TaskError::skip_retry("no receiver"))
        }
    };
    let server = Server::builder(broker.clone()).process(greet);
    let server = server.start().await.expect("started");
    let producer = Producer::new(broker);
    let mut task = producer.enqueue(Greet).id("task-42");
    if let Some(header) = header {
        task = task.header("traceparent", header);
    }
    task.await.expect("accepted").result().await.expect("done");
    let traceparent = contexts.recv().await.expect("it ran");
    server.shutdown().await.expect("stopped");
    let text = String::from_utf8(lines.0.lock().clone()).expect("UTF-8");
    let hello = text
        .lines()
        .find(|line| line.ends_with("hello"))
        .expect("a line");
    (hello.to_owned(), traceparent)
}

fn assert_names_the_task(line: &str) {
    let fields = r#"event="greet" queue="default" id="task-42" attempt=1"#;
    assert!(line.contains(fields), "{line}");
}

fn assert_has_trace(line: &str, traceparent: Option<String>) {
    assert_names_the_task(line);
    let traceparent = traceparent.expect("a context");
    let trace = format!("trace_id=\"{}\"", &traceparent[3..35]);
    assert!(line.contains(&trace), "{line}, {trace}");
}

#[tokio::test]
async fn a_log_line_in_a_handler_carries_task_and_trace() {
    let (line, traceparent) = line(Some(Sampler::AlwaysOn), None).await;
    assert_has_trace(&line, traceparent);
}

/// Its span exists only for the log.
#[tokio::test]
async fn a_log_line_carries_task_and_trace_of_an_unsampled_trace() {
    let (line, traceparent) = line(Some(Sampler::AlwaysOff), None).await;
    assert_has_trace(&line, traceparent);
}

#[tokio::test]
async fn a_log_line_carries_the_task_without_traces() {
    let (line, traceparent) = line(None, None).await;
    assert_names_the_task(&line);
    assert_eq!(traceparent, None);
}

#[tokio::test]
async fn a_log_line_carries_a_new_trace_if_the_task_has_none() {
    let (line, _) = line(Some(Sampler::AlwaysOn), Some("")).await;
    let trace = line.split_once("trace_id=\"").expect("a trace").1;
    let trace = trace.split_once('"').expect("an end").0;
    assert_eq!(trace.len(), 32, "{line}");
    assert!(
        trace.chars().all(|digit| digit.is_ascii_hexdigit()),
        "{line}"
    );
}
