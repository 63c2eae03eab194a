//! The log lines about failures. A subscriber for the complete program captures every line, from any thread.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, OnceLock},
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{Broker, CancelOutcome, LeaseRequest, all_of},
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::{Server, ServerBuilder},
    task::TaskState,
};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{
    Layer,
    layer::{Context as LayerContext, SubscriberExt},
    registry::LookupSpan,
};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "greet", max_retry = 1, backoff = fixed("20ms"), crate = asynqueue_core)]
struct Greet {
    name: String,
}

/// A line, or a span.
#[derive(Clone, Debug, Default, PartialEq)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Fields {
    fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }
}

#[derive(Clone, Debug)]
struct Line {
    level: Level,
    target: String,
    fields: Fields,
    /// Name and fields of the span it is in.
    span: Option<(&'static str, Fields)>,
}

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

struct Notes;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Notes {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: LayerContext<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let span = ctx.span(id).expect("known");
        span.extensions_mut().insert(fields);
    }

    fn on_event(&self, event: &Event<'_>, ctx: LayerContext<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let span = ctx.event_span(event).map(|span| {
            let fields = span.extensions().get::<Fields>().cloned();
            (span.name(), fields.unwrap_or_default())
        });
        LINES.lock().unwrap().push(Line {
            level: *event.metadata().level(),
            target: event.metadata().target().to_owned(),
            fields,
            span,
        });
    }
}

/// A broker with all log lines captured from here on.
fn noted() -> (MemoryBroker, Producer) {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let subscriber = tracing_subscriber::registry().with(Notes);
        tracing::subscriber::set_global_default(subscriber).expect("the only one");
    });
    let broker = MemoryBroker::new();
    (broker.clone(), Producer::new(broker))
}

/// The lines about failures of one task.
fn lines(id: &str) -> Vec<Line> {
    let mut lines = LINES.lock().unwrap().clone();
    lines.retain(|line| line.fields.get("id") == id && line.target == "asynqueue::failures");
    lines
}

/// The first line of a level about failures of one task.
async fn line(id: &str, level: Level) -> Line {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let lines = lines(id);
        if let Some(line) = lines.iter().find(|line| line.level == level) {
            return line.clone();
        }
        assert!(Instant::now() < deadline, "{id}: {lines:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn assert_says(line: &Line, level: Level, expected: &[(&'static str, &str)]) {
    assert_eq!(line.level, level, "{line:?}");
    for (key, value) in expected {
        assert_eq!(line.fields.get(key), *value, "{key}: {line:?}");
    }
}

/// A server whose handler fails as the name in the payload says.
fn server(broker: &MemoryBroker) -> ServerBuilder {
    let greet = |greet: Payload<Greet>, ctx: Context| async move {
        match greet.name.as_str() {
            "retry" => Err(TaskError::retry("smtp is down")),
            "never" => Err(TaskError::skip_retry("no such person")),
            "snooze" => Err(TaskError::snooze(Duration::from_secs(3600))),
            "wait" => {
                ctx.cancelled().await;
                Err(TaskError::retry("requested to stop"))
            }
            "revoke" => Err(TaskError::revoke()),
            "panic" => panic!("on fire"),
            _ => Ok(()),
        }
    };
    Server::builder(broker.clone()).process(greet)
}

fn named(name: &str) -> Greet {
    Greet { name: name.into() }
}

#[tokio::test]
async fn a_failed_attempt_is_a_warning_with_the_next_retry_and_an_archived_task_an_error() {
    let (broker, producer) = noted();
    let server = server(&broker).start().await.unwrap();
    let task = producer.enqueue(named("retry")).id("fails-twice");
    task.result().await.unwrap_err();
    server.shutdown().await.unwrap();
    let lines = lines("fails-twice");
    let [first, last, archived] = &lines[..] else {
        panic!("three lines: {lines:#?}");
    };
    let common = [
        ("event", "greet"),
        ("queue", "default"),
        ("id", "fails-twice"),
        ("max_attempts", "2"),
        ("kind", "error"),
        ("error", "smtp is down"),
    ];
    for (line, level) in [
        (first, Level::WARN),
        (last, Level::WARN),
        (archived, Level::ERROR),
    ] {
        assert_says(line, level, &common);
    }
    let message = "attempt 1 of 2 failed; retrying in 20ms";
    let expected = [("attempt", "1"), ("retry_in", "20ms"), ("message", message)];
    assert_says(first, Level::WARN, &expected);
    let message = "attempt 2 of 2 failed; archiving the task";
    assert_says(
        last,
        Level::WARN,
        &[("attempt", "2"), ("message", message), ("retry_in", "")],
    );
    assert_says(
        archived,
        Level::ERROR,
        &[("attempt", "2"), ("message", "task archived")],
    );
}

#[tokio::test]
async fn a_failed_attempt_is_logged_in_the_span_of_its_task() {
    let (broker, producer) = noted();
    let server = server(&broker).start().await.unwrap();
    for (name, id) in [("never", "in-span"), ("panic", "in-span-panic")] {
        let task = producer.enqueue(named(name)).id(id).max_retry(0);
        task.result().await.unwrap_err();
    }
    server.shutdown().await.unwrap();
    for id in ["in-span", "in-span-panic"] {
        let (name, fields) = lines(id)[0].span.clone().expect("a span");
        assert_eq!(name, "process");
        for (key, value) in [
            ("event", "greet"),
            ("queue", "default"),
            ("id", id),
            ("attempt", "1"),
        ] {
            assert_eq!(fields.get(key), value, "{key}: {fields:?}");
        }
    }
}

#[tokio::test]
async fn a_task_archived_without_an_attempt_is_an_error_with_its_reason() {
    /// A task of an event without a handler.
    #[derive(Serialize, Deserialize, Task)]
    #[task(event = "unheard-of", crate = asynqueue_core)]
    struct Unheard;
    /// A different type of the same event.
    #[derive(Serialize, Deserialize, Task)]
    #[task(event = "greet", max_retry = 0, crate = asynqueue_core)]
    struct Other(u64);

    let (broker, producer) = noted();
    let enqueued = producer.enqueue(named("lost")).id("lost").max_retry(0);
    enqueued.await.unwrap();
    let request = LeaseRequest::new(
        vec![("default".into(), 1)],
        1,
        Duration::from_millis(50),
        "dead".into(),
    );
    all_of(broker.lease(&request).await).unwrap().concat();
    producer.enqueue(Unheard).id("unheard").await.unwrap();
    producer.enqueue(Other(1)).id("undecodable").await.unwrap();
    let late = producer.enqueue(named("late")).id("late");
    late.deadline(Duration::from_millis(1)).await.unwrap();
    let passed = broker.now() + Duration::from_millis(1);
    while broker.now() <= passed {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let lease = Duration::from_millis(50);
    let server = server(&broker)
        .lease(lease)
        .unknown_event_grace(Duration::ZERO);
    let server = server.start().await.unwrap();
    for (id, kind, event) in [
        ("lost", "lease expired", "greet"),
        ("unheard", "unknown event", "unheard-of"),
        ("undecodable", "decode", "greet"),
        ("late", "deadline", "greet"),
    ] {
        let archived = line(id, Level::ERROR).await;
        let expected = [
            ("kind", kind),
            ("message", "task archived"),
            ("event", event),
        ];
        assert_says(&archived, Level::ERROR, &expected);
        assert_ne!(archived.fields.get("error"), "");
    }
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_outcome_that_is_not_a_failure_is_not_logged_as_one() {
    let (broker, producer) = noted();
    let server = server(&broker).start().await.unwrap();
    for name in ["fine", "snooze", "revoke"] {
        producer.enqueue(named(name)).id(name).await.unwrap();
    }
    let last = producer
        .enqueue(named("fine"))
        .id("last")
        .retention(Duration::from_secs(60));
    last.await.unwrap().result().await.unwrap();
    server.shutdown().await.unwrap();
    for id in ["fine", "snooze", "revoke", "last"] {
        assert!(lines(id).is_empty(), "{id}: {:?}", lines(id));
    }
}

#[tokio::test]
async fn a_cancelled_task_is_not_a_failure() {
    let (broker, producer) = noted();
    let server = server(&broker).start().await.unwrap();
    let task = producer.enqueue(named("wait")).id("cancelled");
    let task = task.await.unwrap();
    while task.status().await.unwrap().state() != Some(TaskState::Active) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let cancelled = task.cancel("not wanted").await.unwrap();
    assert_eq!(cancelled, CancelOutcome::Requested);
    let message = "task archived: it was cancelled";
    let archived = line("cancelled", Level::INFO).await;
    assert_says(&archived, Level::INFO, &[("message", message)]);
    server.shutdown().await.unwrap();
    assert_eq!(lines("cancelled").len(), 1, "{:#?}", lines("cancelled"));
}

#[tokio::test]
async fn log_failures_disables_these_lines() {
    let (broker, producer) = noted();
    let server = server(&broker).log_failures(false).start().await.unwrap();
    let task = producer.enqueue(named("retry")).id("unlogged");
    task.result().await.unwrap_err();
    server.shutdown().await.unwrap();
    assert!(lines("unlogged").is_empty(), "{:?}", lines("unlogged"));
}

/// The worker was lost, but attempts are left.
#[tokio::test]
async fn a_lost_worker_is_a_warning_that_the_task_is_retried_immediately() {
    let (broker, producer) = noted();
    producer
        .enqueue(named("fine"))
        .id("reclaimed")
        .await
        .unwrap();
    let lease = Duration::from_millis(50);
    let request = LeaseRequest::new(vec![("default".into(), 1)], 1, lease, "dead".into());
    all_of(broker.lease(&request).await).unwrap().concat();
    let server = server(&broker).lease(lease).start().await.unwrap();
    let warning = line("reclaimed", Level::WARN).await;
    let message = "attempt 1 of 2 failed; retrying immediately";
    let expected = [("kind", "lease expired"), ("message", message)];
    assert_says(&warning, Level::WARN, &expected);
    server.shutdown().await.unwrap();
    assert_eq!(lines("reclaimed").len(), 1, "{:?}", lines("reclaimed"));
}
