//! The relations between spans, and their content.

use std::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::Duration,
};

use asynqueue_core::{
    memory::MemoryBroker,
    process::{Context, Payload, Process, TaskError},
    producer::Producer,
    scheduler::{Entry, Scheduler},
    server::{Server, ServerHandle},
    task::{TaskId, TaskRef},
};
use asynqueue_macros::Task;
use opentelemetry::trace::{SpanKind, Status};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{Instrument, info_span};

use super::harness::{Traced, attribute, value};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "order", queue = "orders", retention = "1h", backoff = fixed("1ms"), crate = asynqueue_core)]
struct Order {
    lines: u32,
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "invoice", retention = "1h", crate = asynqueue_core)]
struct Invoice;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "news", aggregate(grace = "1ms", max_delay = "1s", max_size = 3), crate = asynqueue_core)]
struct News;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "digest", retention = "1h", crate = asynqueue_core)]
struct Digest;

async fn invoice(_: Payload<Invoice>, _: Context) -> Result<(), TaskError> {
    Ok(())
}

/// A handler that reports when it has run.
#[derive(Clone)]
struct Notify(UnboundedSender<()>);

impl Notify {
    fn new() -> (Self, UnboundedReceiver<()>) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), receiver)
    }
}

impl Process<Invoice> for Notify {
    async fn handle(&self, _: Payload<Invoice>, _: &Context) -> Result<(), TaskError> {
        let sent = self.0.send(());
        sent.map_err(|_| TaskError::skip_retry("no receiver"))
    }
}

/// Runs until a task has finished.
async fn ended<T: asynqueue_core::task::Task>(
    server: ServerHandle,
    task: asynqueue_core::producer::TaskHandle<T>,
) {
    // A failed task has finished too.
    let _ = task.result().await;
    server.shutdown().await.expect("stopped");
}

#[tokio::test]
async fn a_task_that_a_handler_enqueues_is_part_of_the_trace_of_the_request() {
    let traced = Traced::new();
    let broker = MemoryBroker::new();
    let producer = Producer::new(broker.clone());
    let order = {
        let producer = producer.clone();
        move |order: Payload<Order>, _: Context| {
            let producer = producer.clone();
            async move {
                for n in 0..order.lines {
                    producer.enqueue(Invoice).id(format!("invoice-{n}")).await?;
                }
                Ok::<_, TaskError>(())
            }
        }
    };
    let server = Server::builder(broker.clone())
        .process(order)
        .process(invoice);
    let server = server.start().await.expect("started");
    let request = info_span!("POST /orders");
    let task = producer.enqueue(Order { lines: 1 }).into_future();
    let task = task.instrument(request).await.expect("accepted");
    task.result().await.expect("done");
    let invoice = producer.handle::<Invoice>(asynqueue_core::task::TaskRef {
        queue: "default".into(),
        id: asynqueue_core::task::TaskId::new("invoice-0").expect("an id"),
    });
    ended(server, invoice).await;
    assert_eq!(
        traced.tree(),
        [
            "POST /orders",
            "POST /orders > send orders",
            "POST /orders > send orders > process orders",
            "POST /orders > send orders > process orders > send default",
            "POST /orders > send orders > process orders > send default > process default",
        ]
    );
}

#[tokio::test]
async fn tasks_of_a_handlers_producer_are_children_of_its_attempt() {
    async fn order(producer: Producer, _: Payload<Order>) -> Result<(), TaskError> {
        producer.enqueue(Invoice).id("invoice").await?;
        Ok(())
    }
    let traced = Traced::new();
    let broker = MemoryBroker::new();
    let server = Server::builder(broker.clone())
        .process(order)
        .process(invoice);
    let server = server.start().await.expect("started");
    let producer = Producer::new(broker);
    let task = producer.enqueue(Order { lines: 1 }).await;
    task.expect("accepted").result().await.expect("done");
    let invoice = TaskId::new("invoice").expect("an id");
    let invoice = producer.handle::<Invoice>(TaskRef::new("default", invoice));
    ended(server, invoice).await;
    assert_eq!(
        traced.tree(),
        [
            "send orders",
            "send orders > process orders",
            "send orders > process orders > send default",
            "send orders > process orders > send default > process default",
        ]
    );
}

#[tokio::test]
async fn spans_follow_the_messaging_conventions() {
    let traced = Traced::new();
    let broker = MemoryBroker::new();
    let server = Server::builder(broker.clone())
        .name("worker-7")
        .process(invoice);
    let server = server.start().await.expect("started");
    let task = Producer::new(broker).enqueue(Invoice).id("42").await;
    ended(server, task.expect("accepted")).await;

    let (send, process) = (traced.span("send default"), traced.span("process default"));
    assert_eq!(send.span_kind, SpanKind::Producer);
    assert_eq!(process.span_kind, SpanKind::Consumer);
    for (span, operation, kind) in [(&send, "enqueue", "send"), (&process, "process", "process")] {
        for (key, expected) in [
            ("messaging.system", "asynqueue"),
            ("messaging.operation.name", operation),
            ("messaging.operation.type", kind),
            ("messaging.destination.name", "default"),
            ("messaging.message.id", "42"),
            ("messaging.message.body.size", "1"),
            ("asynqueue.event", "invoice"),
        ] {
            assert_eq!(attribute(span, key).as_deref(), Some(expected), "{key}");
        }
        assert_eq!(span.status, Status::Unset);
    }
    assert_eq!(
        attribute(&process, "asynqueue.attempt").as_deref(),
        Some("1")
    );
    let worker = attribute(&process, "messaging.client.id");
    assert_eq!(worker.as_deref(), Some("worker-7"));
}

#[tokio::test]
async fn attempts_are_siblings_and_each_records_its_failure() {
    let traced = Traced::new();
    let broker = MemoryBroker::new();
    let order = |_: Payload<Order>, _: Context| async {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        match RUNS.fetch_add(1, SeqCst) {
            0 => Err(TaskError::from(std::io::Error::other("no paper"))),
            1 => panic!("on fire"),
            2 => Err(TaskError::snooze(Duration::from_millis(1))),
            _ => Ok(()),
        }
    };
    let server = Server::builder(broker.clone()).process(order);
    let server = server.start().await.expect("started");
    let task = Producer::new(broker).enqueue(Order { lines: 0 }).await;
    ended(server, task.expect("accepted")).await;

    let attempts = traced.named("process orders");
    let of: Vec<_> = attempts
        .iter()
        .map(|span| {
            assert_eq!(
                span.parent_span_id,
                traced.span("send orders").span_context.span_id()
            );
            let of = |key| attribute(span, key).unwrap_or_default();
            (
                of("asynqueue.attempt"),
                of("error.type"),
                of("asynqueue.outcome"),
            )
        })
        .collect();
    let expected = [
        ("1", "error", ""),
        ("2", "panic", ""),
        ("3", "", "snoozed"),
        ("3", "", ""),
    ];
    let expected = expected.map(|(n, kind, outcome)| (n.into(), kind.into(), outcome.into()));
    assert_eq!(of, expected);

    assert_eq!(attempts[0].status, Status::error("no paper"));
    assert_eq!(attempts[2].status, Status::Unset);
    let panicked = &attempts[1].events.events[0];
    assert_eq!(panicked.name, "exception");
    let message = value(&panicked.attributes, "exception.message").expect("a message");
    assert_eq!(message, "panicked: on fire");
    let trace = value(&panicked.attributes, "exception.stacktrace").expect("a backtrace");
    assert!(trace.contains("tree.rs"), "{trace}");
}

#[tokio::test]
async fn attempts_are_one_trace_even_if_the_producer_was_not_traced() {
    let broker = MemoryBroker::new();
    let producer = Producer::new(broker.clone());
    let task = producer
        .enqueue(Order { lines: 0 })
        .await
        .expect("accepted");
    let traced = Traced::new();
    let runs = AtomicU32::new(0);
    let order = move |_: Payload<Order>, _: Context| {
        let run = runs.fetch_add(1, SeqCst);
        async move {
            match run {
                0 => Err(TaskError::retry("no paper")),
                1 => Err(TaskError::snooze(Duration::from_millis(1))),
                2 => panic!("on fire"),
                _ => Ok(()),
            }
        }
    };
    let server = Server::builder(broker).process(order);
    ended(server.start().await.expect("started"), task).await;

    let later = "process orders > process orders";
    assert_eq!(traced.tree(), ["process orders", later, later, later]);
}

#[tokio::test]
async fn an_attempt_released_by_a_shutdown_is_in_the_trace_of_the_next() {
    let broker = MemoryBroker::new();
    let producer = Producer::new(broker.clone());
    let task = producer.enqueue(Invoice).await.expect("accepted");
    let traced = Traced::new();
    let (started, mut starts) = unbounded_channel();
    let stops = move |_: Payload<Invoice>, ctx: Context| {
        let started = started.clone();
        async move {
            started.send(()).expect("a receiver");
            ctx.cancelled().await;
            Err::<(), _>(TaskError::retry("interrupted"))
        }
    };
    let first = Server::builder(broker.clone())
        .shutdown_timeout(Duration::ZERO)
        .cancel_grace(Duration::from_secs(3600));
    let first = first.process(stops).start().await.expect("started");
    starts.recv().await.expect("started");
    first.shutdown().await.expect("stopped");
    let second = Server::builder(broker).process(invoice);
    ended(second.start().await.expect("started"), task).await;
    let expected = ["process default", "process default > process default"];
    assert_eq!(traced.tree(), expected);
}

#[tokio::test]
async fn a_batch_has_one_span_which_is_the_parent_of_all_attempts() {
    let traced = Traced::new();
    let broker = MemoryBroker::new();
    let producer = Producer::new(broker.clone());
    let tasks = producer.enqueue_many((0..3).map(|_| Invoice)).await;
    let server = Server::builder(broker.clone()).process(invoice);
    let server = server.start().await.expect("started");
    for task in tasks {
        task.expect("accepted").result().await.expect("done");
    }
    server.shutdown().await.expect("stopped");
    let send = traced.span("send default");
    let count = attribute(&send, "messaging.batch.message_count");
    assert_eq!(count.as_deref(), Some("3"));
    let attempts = traced.named("process default");
    assert_eq!(attempts.len(), 3);
    for attempt in attempts {
        assert_eq!(attempt.parent_span_id, send.span_context.span_id());
    }
}

#[tokio::test]
async fn the_task_of_a_group_links_to_its_members() {
    let traced = Traced::new();
    let broker = MemoryBroker::new();
    let producer = Producer::new(broker.clone());
    let (done, mut digests) = tokio::sync::mpsc::unbounded_channel();
    let digest = move |_: Payload<Digest>, _: Context| {
        let done = done.clone();
        async move {
            done.send(())
                .map_err(|_| TaskError::skip_retry("no receiver"))
        }
    };
    for _ in 0..3 {
        producer.enqueue(News).await.expect("accepted");
    }
    let server = Server::builder(broker)
        .aggregate(|_: Vec<News>| Digest)
        .process(digest);
    let server = server.start().await.expect("started");
    digests.recv().await.expect("a digest");
    server.shutdown().await.expect("stopped");

    let sends = traced.named("send default");
    let mut senders: Vec<_> = sends[..3]
        .iter()
        .map(|span| span.span_context.span_id())
        .collect();
    let attempt = traced.span("process default");
    let mut links: Vec<_> = attempt
        .links
        .iter()
        .map(|link| link.span_context.span_id())
        .collect();
    senders.sort_unstable_by_key(|id| id.to_string());
    links.sort_unstable_by_key(|id| id.to_string());
    assert_eq!(links, senders);
    assert_eq!(attempt.parent_span_id, sends[3].span_context.span_id());
}

#[tokio::test]
async fn all_subscribers_work_in_the_trace_of_the_publisher() {
    let traced = Traced::new();
    let broker = MemoryBroker::new();
    let (hear, mut heard) = Notify::new();
    let server = Server::builder(broker.clone())
        .subscribe("a", hear.clone())
        .subscribe("b", hear);
    let server = server.start().await.expect("started");
    Producer::new(broker)
        .publish(Invoice)
        .await
        .expect("published");
    for _ in 0..2 {
        heard.recv().await.expect("a message");
    }
    server.shutdown().await.expect("stopped");
    let mut tree = traced.tree();
    tree.sort();
    assert_eq!(
        tree,
        [
            "send @invoice",
            "send @invoice > process @invoice",
            "send @invoice > process a@invoice",
            "send @invoice > process b@invoice",
        ]
    );
}

#[tokio::test]
async fn a_tick_of_the_scheduler_starts_a_trace() {
    let traced = Traced::new();
    let broker = MemoryBroker::new();
    let (hear, mut heard) = Notify::new();
    let server = Server::builder(broker.clone()).process(hear);
    let server = server.start().await.expect("started");
    let scheduler =
        Scheduler::builder(broker).entry(Entry::new("tick", "@every 1s", Invoice).expect("a rule"));
    let scheduler = scheduler.start().await.expect("started");
    heard.recv().await.expect("a tick");
    scheduler.shutdown().await;
    server.shutdown().await.expect("stopped");
    assert_eq!(
        traced.tree()[..2],
        ["send default", "send default > process default"]
    );
}

#[tokio::test]
async fn a_task_without_a_handler_is_recorded_in_its_trace() {
    let traced = Traced::new();
    let broker = MemoryBroker::new();
    let server = Server::builder(broker.clone())
        .queue("default", 1)
        .queue("orders", 1)
        .unknown_event_grace(Duration::ZERO);
    let server = server.process(invoice).start().await.expect("started");
    let task = Producer::new(broker).enqueue(Order { lines: 1 }).await;
    ended(server, task.expect("accepted")).await;
    let attempt = traced.span("process orders");
    let kind = attribute(&attempt, "error.type");
    assert_eq!(kind.as_deref(), Some("unknown event"));
    let message = "no handler is registered for event `order`";
    assert_eq!(attempt.status, Status::error(message));
}

#[tokio::test]
async fn an_abandoned_handler_ends_its_span_with_an_error() {
    let traced = Traced::new();
    let broker = MemoryBroker::new();
    let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
    let stuck = move |_: Payload<Invoice>, _: Context| {
        let started = started.clone();
        async move {
            started.send(()).expect("a receiver");
            std::future::pending::<Result<(), TaskError>>().await
        }
    };
    let server = Server::builder(broker.clone())
        .shutdown_timeout(Duration::ZERO)
        .cancel_grace(Duration::ZERO)
        .process(stuck);
    let server = server.start().await.expect("started");
    Producer::new(broker)
        .enqueue(Invoice)
        .await
        .expect("accepted");
    starts.recv().await.expect("started");
    server.shutdown().await.expect("stopped");
    // The runtime drops an aborted task at its next turn.
    traced.until_there_is("process default").await;
    let kind = attribute(&traced.span("process default"), "error.type");
    assert_eq!(kind.as_deref(), Some("abandoned"));
}

/// Its outcome is a timeout, regardless of how the handler ends.
#[test]
fn a_handler_that_blocks_past_its_time_ends_its_span_with_an_error() {
    let traced = Traced::new();
    let dispatch = traced.dispatch.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(move || std::mem::forget(tracing::dispatcher::set_default(&dispatch)))
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let broker = MemoryBroker::new();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = std::sync::Arc::new(std::sync::Mutex::new(released));
        let block = move |_: Payload<Invoice>, _: Context| {
            let released = released.clone();
            async move {
                let wait = released.lock().expect("not poisoned").recv();
                wait.map_err(TaskError::skip_retry)
            }
        };
        let server = Server::builder(broker.clone()).process(block);
        let server = server.start().await.expect("started");
        let producer = Producer::new(broker);
        let task = producer.enqueue(Invoice).max_retry(0);
        let task = task.timeout(Duration::from_millis(1)).await;
        task.expect("accepted")
            .result()
            .await
            .expect_err("timed out");
        release.send(()).expect("a receiver");
        traced.until_there_is("process default").await;
        server.shutdown().await.expect("stopped");
    });
    let kind = attribute(&traced.span("process default"), "error.type");
    assert_eq!(kind.as_deref(), Some("abandoned"));
}
