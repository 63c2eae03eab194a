//! The metrics of producers and servers.

use std::time::Duration;

use asynqueue_core::{
    broker::{Control, LeaseRequest},
    inspector::Inspector,
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    producer::{Producer, TaskHandle},
    server::Server,
    task::Task,
};
use asynqueue_macros::Task;
use asynqueue_monitor::metrics::{Exporter, install};
use serde::{Deserialize, Serialize};

use super::scrape::{Scrape, until};

const AN_HOUR: Duration = Duration::from_secs(3600);

/// Defines a task type for one test.
macro_rules! task {
    ($name:ident, $event:literal) => {
        #[derive(Serialize, Deserialize, Task)]
        #[task(event = $event, retention = "1h", backoff = fixed("1ms"), max_retry = 1, crate = asynqueue_core)]
        struct $name;
    };
}

async fn done<T: Task>(_: Payload<T>, _: Context) -> Result<(), TaskError> {
    Ok(())
}

/// Waits until the server has counted an outcome that the broker has recorded.
async fn processed(exporter: &Exporter, event: &str, outcome: &str, count: f64) -> Scrape {
    let labels = [
        format!("event=\"{event}\""),
        format!("outcome=\"{outcome}\""),
    ];
    until(exporter, &format!("{outcome} is {count}"), |scrape| {
        let labels = [labels[0].as_str(), labels[1].as_str()];
        scrape.value("asynqueue_tasks_processed_total", &labels) == Some(count)
    })
    .await
}

#[tokio::test]
async fn enqueued_tasks_are_counted_by_result() {
    task!(Sent, "sent");
    let exporter = install().expect("installed");
    let broker = MemoryBroker::new();
    let producer = Producer::with_max_payload(broker.clone(), 8);
    let many = producer.enqueue_many_with((0..5).map(|_| Sent), |_, call| call.id("same"));
    assert_eq!(many.await.iter().filter(|result| result.is_ok()).count(), 1);
    producer.enqueue(Sent).await.expect("accepted");
    producer.enqueue(Sent).id("same").await.expect_err("taken");
    producer
        .enqueue(Sent)
        .priority(99)
        .await
        .expect_err("refused");
    producer
        .enqueue(Sent)
        .queue("other queue")
        .await
        .expect_err("refused");
    Control::close(&broker).await;
    producer.enqueue(Sent).await.expect_err("closed");

    let scrape = Scrape::of(&exporter).await;
    let count = |result: &str| {
        let labels = [
            r#"queue="default""#,
            r#"event="sent""#,
            &format!("result=\"{result}\""),
        ];
        scrape.value("asynqueue_tasks_enqueued_total", &labels)
    };
    assert_eq!(count("accepted"), Some(2.0));
    assert_eq!(count("duplicate"), Some(5.0));
    assert_eq!(count("refused"), Some(2.0));
    assert_eq!(count("failed"), Some(1.0));
}

#[tokio::test]
async fn processed_tasks_are_counted_by_recorded_outcome() {
    task!(Ended, "ended");
    let exporter = install().expect("installed");
    let broker = MemoryBroker::new();
    let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |_: Payload<Ended>, ctx: Context| {
        let started = started.clone();
        async move {
            match ctx.id().as_str() {
                "fails" => Err(TaskError::from(std::io::Error::other("no"))),
                "revoked" => Err(TaskError::revoke()),
                "snoozed" if ctx.headers().is_empty() => Err(TaskError::snooze(AN_HOUR)),
                "cancelled" | "released" => {
                    started
                        .send(())
                        .map_err(|_| TaskError::skip_retry("no receiver"))?;
                    ctx.cancelled().await;
                    Err(TaskError::from(std::io::Error::other("cancelled")))
                }
                _ => Ok(()),
            }
        }
    };
    let server = Server::builder(broker.clone())
        .shutdown_timeout(Duration::ZERO)
        .process(handler);
    let server = server.start().await.expect("started");
    let producer = Producer::new(broker.clone());
    for id in ["fails", "revoked", "snoozed", "completes", "completes-too"] {
        producer.enqueue(Ended).id(id).await.expect("accepted");
    }
    processed(&exporter, "ended", "archived", 1.0).await;
    processed(&exporter, "ended", "retried", 1.0).await;
    processed(&exporter, "ended", "revoked", 1.0).await;
    processed(&exporter, "ended", "snoozed", 1.0).await;
    processed(&exporter, "ended", "completed", 2.0).await;

    let cancelled: TaskHandle<Ended> = producer
        .enqueue(Ended)
        .id("cancelled")
        .await
        .expect("accepted");
    starts.recv().await.expect("it runs");
    cancelled.cancel("no use").await.expect("cancelled");
    processed(&exporter, "ended", "cancelled", 1.0).await;

    producer
        .enqueue(Ended)
        .id("released")
        .await
        .expect("accepted");
    starts.recv().await.expect("it runs");
    server.shutdown().await.expect("stopped");
    let scrape = processed(&exporter, "ended", "released", 1.0).await;
    let all = scrape.value("asynqueue_tasks_processed_total", &[r#"event="ended""#]);
    assert_eq!(all, Some(8.0), "each once");
}

#[tokio::test]
async fn attempts_are_timed_and_running_attempts_are_counted() {
    task!(Timed, "timed");
    let exporter = install().expect("installed");
    let broker = MemoryBroker::new();
    let (go, _) = tokio::sync::broadcast::channel::<()>(1);
    let held = go.clone();
    let handler = move |_: Payload<Timed>, _: Context| {
        let mut go = held.subscribe();
        async move { Ok::<_, TaskError>(go.recv().await?) }
    };
    let server = Server::builder(broker.clone())
        .concurrency(3)
        .process(handler);
    let server = server.start().await.expect("started");
    let producer = Producer::new(broker);
    for _ in 0..2 {
        producer.enqueue(Timed).await.expect("accepted");
    }
    let timed = [r#"queue="default""#, r#"event="timed""#];
    let running =
        |n| move |scrape: &Scrape| scrape.value("asynqueue_tasks_running", &timed) == Some(n);
    let scrape = until(&exporter, "two run", running(2.0)).await;
    let waited = scrape.value("asynqueue_task_waiting_seconds_count", &timed);
    assert_eq!(waited, Some(2.0));
    assert_eq!(
        scrape.value("asynqueue_task_handling_seconds_count", &timed),
        Some(0.0)
    );
    until(&exporter, "slots are exported", |scrape| {
        scrape
            .value("asynqueue_server_slots", &[])
            .is_some_and(|slots| slots >= 3.0)
    })
    .await;

    go.send(()).expect("a receiver");
    let scrape = until(&exporter, "none runs", running(0.0)).await;
    let handled = scrape.value("asynqueue_task_handling_seconds_count", &timed);
    assert_eq!(handled, Some(2.0));
    for bound in ["0.0001", "1", "14400", "+Inf"] {
        let labels = [timed[0], timed[1], &format!("le=\"{bound}\"")];
        let bucket = scrape.value("asynqueue_task_handling_seconds_bucket", &labels);
        assert!(bucket.is_some(), "{bound}: {}", scrape.text());
    }
    server.shutdown().await.expect("stopped");
}

/// The time in the queue counts from when the task is due, not from when it was enqueued.
#[tokio::test]
async fn a_requested_delay_does_not_count_as_waiting() {
    task!(Delayed, "delayed");
    let exporter = install().expect("installed");
    let broker = MemoryBroker::new();
    let server = Server::builder(broker.clone()).process(done::<Delayed>);
    let server = server.start().await.expect("started");
    let task = Producer::new(broker);
    let task = task
        .enqueue(Delayed)
        .delay(Duration::from_millis(600))
        .await;
    task.expect("accepted").result().await.expect("done");
    server.shutdown().await.expect("stopped");
    let scrape = processed(&exporter, "delayed", "completed", 1.0).await;
    let waited = scrape.value(
        "asynqueue_task_waiting_seconds_sum",
        &[r#"event="delayed""#],
    );
    assert!(waited.expect("exported") < 0.5, "{waited:?}");
}

#[tokio::test]
async fn unknown_events_share_one_label() {
    task!(Known, "known");
    task!(OtherA, "other-a");
    task!(OtherB, "other-b");
    let exporter = install().expect("installed");
    let broker = MemoryBroker::new();
    let producer = Producer::new(broker.clone());
    let queue = "unhandled";
    let a = producer
        .enqueue(OtherA)
        .queue(queue)
        .await
        .expect("accepted");
    let b = producer
        .enqueue(OtherB)
        .queue(queue)
        .await
        .expect("accepted");
    let server = Server::builder(broker)
        .queue(queue, 1)
        .unknown_event_grace(Duration::ZERO)
        .process(done::<Known>);
    let server = server.start().await.expect("started");
    a.result().await.expect_err("archived");
    b.result().await.expect_err("archived");
    server.shutdown().await.expect("stopped");
    let scrape = Scrape::of(&exporter).await;
    let labels = [
        r#"queue="unhandled""#,
        r#"event="unknown""#,
        r#"outcome="archived""#,
    ];
    let archived = scrape.value("asynqueue_tasks_processed_total", &labels);
    assert_eq!(archived, Some(2.0));
    let by_name = scrape.value("asynqueue_tasks_processed_total", &[r#"event="other-a""#]);
    assert_eq!(by_name, None);
}

#[tokio::test]
async fn a_task_of_a_lost_worker_counts_as_reclaimed_and_retried() {
    task!(Lost, "lost");
    let exporter = install().expect("installed");
    let broker = MemoryBroker::new();
    let lease = Duration::from_millis(60);
    let request = LeaseRequest::new(vec![("default".into(), 1)], 1, lease, "dead".into());
    let producer = Producer::new(broker.clone());
    producer.enqueue(Lost).await.expect("accepted");
    asynqueue_core::broker::Broker::lease(&broker, &request)
        .await
        .expect("leased");
    let server = Server::builder(broker).lease(lease).process(done::<Lost>);
    let server = server.start().await.expect("started");
    let scrape = processed(&exporter, "lost", "completed", 1.0).await;
    let lost = [r#"event="lost""#];
    assert_eq!(
        scrape.value("asynqueue_tasks_reclaimed_total", &lost),
        Some(1.0)
    );
    let retried = scrape.value(
        "asynqueue_tasks_processed_total",
        &[lost[0], r#"outcome="retried""#],
    );
    assert_eq!(retried, Some(1.0));
    server.shutdown().await.expect("stopped");
}

#[tokio::test]
async fn a_late_outcome_is_counted_as_refused() {
    task!(Late, "late");
    let exporter = install().expect("installed");
    let broker = MemoryBroker::new();
    let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |_: Payload<Late>, ctx: Context| {
        let started = started.clone();
        async move {
            started
                .send(())
                .map_err(|_| TaskError::skip_retry("no receiver"))?;
            ctx.cancelled().await;
            Ok::<_, TaskError>(())
        }
    };
    let server = Server::builder(broker.clone()).queue("late", 1);
    let server = server.lease(Duration::from_millis(90));
    let server = server.process(handler).start().await.expect("started");
    let producer = Producer::new(broker.clone());
    producer
        .enqueue(Late)
        .queue("late")
        .await
        .expect("accepted");
    starts.recv().await.expect("it runs");
    // The task is deleted while it runs.
    let (inspector, queue) = (Inspector::new(broker), "late".into());
    let deleted = inspector.delete_queue(&queue, true).await;
    assert!(deleted.expect("deleted"));
    let late = [r#"event="late""#];
    until(&exporter, "it is refused", |scrape| {
        scrape.value("asynqueue_outcomes_refused_total", &late) == Some(1.0)
            && scrape.value("asynqueue_leases_lost_total", &late) == Some(1.0)
    })
    .await;
    server.shutdown().await.expect("stopped");
}

#[tokio::test]
async fn published_events_and_groups_are_counted_in_their_queues() {
    task!(Placed, "placed");
    #[derive(Serialize, Deserialize, Task)]
    #[task(event = "part", aggregate(grace = "1ms", max_delay = "1s", max_size = 3), crate = asynqueue_core)]
    struct Part;
    task!(Whole, "whole");
    let exporter = install().expect("installed");
    let broker = MemoryBroker::new();
    let server = Server::builder(broker.clone())
        .subscribe("a", done::<Placed>)
        .subscribe("b", done::<Placed>)
        .aggregate(|_: Vec<Part>| Whole)
        .process(done::<Whole>);
    let producer = Producer::new(broker);
    for _ in 0..3 {
        producer.enqueue(Part).await.expect("accepted");
    }
    let server = server.start().await.expect("started");
    producer.publish(Placed).await.expect("published");
    processed(&exporter, "whole", "completed", 1.0).await;
    let scrape = processed(&exporter, "placed", "completed", 3.0).await;
    let enqueued = |labels: &[&str]| scrape.value("asynqueue_tasks_enqueued_total", labels);
    for queue in ["@placed", "a@placed", "b@placed"] {
        let labels = [&*format!("queue=\"{queue}\""), r#"result="accepted""#];
        assert_eq!(enqueued(&labels), Some(1.0), "{queue}");
    }
    assert_eq!(
        enqueued(&[r#"event="part""#, r#"result="accepted""#]),
        Some(3.0)
    );
    assert_eq!(
        enqueued(&[r#"event="whole""#, r#"result="accepted""#]),
        Some(1.0)
    );
    let aggregated = scrape.value("asynqueue_tasks_aggregated_total", &[r#"event="part""#]);
    assert_eq!(aggregated, Some(3.0));
    server.shutdown().await.expect("stopped");
}
