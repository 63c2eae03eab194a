//! The queue statistics of the broker.

use std::{collections::BTreeSet, time::Duration};

use asynqueue_core::{
    broker::{Broker, Keep, LeaseRequest, Outcome, Settlement, all_of},
    inspector::Inspector,
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::Server,
};
use asynqueue_macros::Task;
use asynqueue_monitor::metrics::install;
use serde::{Deserialize, Serialize};

use super::scrape::{Scrape, until};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "sized", max_retry = 0, retention = "1h", crate = asynqueue_core)]
struct Sized {
    fails: bool,
}

async fn run(task: Payload<Sized>, _: Context) -> Result<(), TaskError> {
    match task.fails {
        true => Err(std::io::Error::other("no").into()),
        false => Ok(()),
    }
}

#[tokio::test]
async fn queues_export_size_by_state_latency_memory_pause_and_totals() {
    let broker = MemoryBroker::new();
    let exporter = install().expect("installed").broker(broker.clone());
    let producer = Producer::new(broker.clone());
    for fails in [true, false, false] {
        producer.enqueue(Sized { fails }).await.expect("accepted");
    }
    let server = Server::builder(broker.clone()).concurrency(5).process(run);
    let server = server.start().await.expect("started");
    let q = [r#"queue="default""#];
    let scrape = until(&exporter, "all are done", |scrape| {
        scrape.value("asynqueue_queue_processed_total", &q) == Some(3.0)
    })
    .await;
    assert_eq!(scrape.value("asynqueue_fleet_servers", &[]), Some(1.0));
    assert_eq!(scrape.value("asynqueue_fleet_slots", &[]), Some(5.0));
    server.shutdown().await.expect("stopped");
    producer
        .enqueue(Sized { fails: false })
        .await
        .expect("accepted");
    let inspector = Inspector::new(broker);
    inspector.pause(&["default".into()]).await.expect("paused");

    let scrape = Scrape::of(&exporter).await;
    let size = |state: &str| {
        scrape.value(
            "asynqueue_queue_size",
            &[q[0], &format!("state=\"{state}\"")],
        )
    };
    assert_eq!(size("pending"), Some(1.0));
    assert_eq!(size("completed"), Some(2.0));
    assert_eq!(size("archived"), Some(1.0));
    assert_eq!(size("active"), Some(0.0));
    let value = |metric: &str| scrape.value(metric, &q).expect(metric);
    assert_eq!(value("asynqueue_queue_failed_total"), 1.0);
    assert_eq!(value("asynqueue_queue_paused"), 1.0);
    assert_eq!(value("asynqueue_queue_repaired_total"), 0.0);
    assert!(value("asynqueue_queue_memory_bytes") > 100.0);
    assert!(value("asynqueue_queue_latency_seconds") >= 0.0);
    assert_eq!(scrape.value("asynqueue_fleet_servers", &[]), Some(0.0));
    assert_eq!(scrape.value("asynqueue_broker_up", &[]), Some(1.0));
}

/// A worker that dies is not a failure of its handler.
#[tokio::test]
async fn lost_attempts_are_exported_apart_from_failures() {
    let broker = MemoryBroker::new();
    let exporter = install().expect("installed").broker(broker.clone());
    let producer = Producer::new(broker.clone());
    let task = producer.enqueue(Sized { fails: false });
    task.await.expect("accepted");
    let queues = vec![("default".into(), 1)];
    let request = LeaseRequest::new(queues, 1, Duration::ZERO, "dead".into());
    let leased = all_of(broker.lease(&request).await).expect("leased");
    let lost = Settlement {
        only_if_expired: true,
        ..leased.concat().remove(0).settle(Outcome::Archive)
    };
    all_of(broker.settle(&[lost]).await).expect("settled");
    let scrape = Scrape::of(&exporter).await;
    let value = |metric: &str| scrape.value(metric, &[r#"queue="default""#]);
    assert_eq!(value("asynqueue_queue_lost_total"), Some(1.0));
    assert_eq!(value("asynqueue_queue_failed_total"), Some(0.0));
    assert_eq!(value("asynqueue_queue_processed_total"), Some(0.0));
}

#[tokio::test]
async fn trimmed_tasks_and_the_archive_limit_are_exported() {
    let broker = MemoryBroker::new();
    let exporter = install().expect("installed").broker(broker.clone());
    let producer = Producer::new(broker.clone());
    for _ in 0..3 {
        let task = producer.enqueue(Sized { fails: false }).queue("full");
        task.await
            .expect("accepted")
            .cancel("no")
            .await
            .expect("cancelled");
    }
    let full = [r#"queue="full""#];
    let scrape = Scrape::of(&exporter).await;
    assert_eq!(
        scrape.value("asynqueue_queue_trimmed_total", &full),
        Some(0.0)
    );
    assert_eq!(scrape.value("asynqueue_queue_archived_max", &full), None);
    let keep = Keep::default().archived_max(1);
    let trimmed = all_of(broker.trim(&["full".into()], keep, 10).await);
    assert_eq!(trimmed.expect("trimmed")[0].by_count, 2);
    let scrape = Scrape::of(&exporter).await;
    assert_eq!(
        scrape.value("asynqueue_queue_trimmed_total", &full),
        Some(2.0)
    );
    assert_eq!(
        scrape.value("asynqueue_queue_archived_max", &full),
        Some(1.0)
    );
}

#[tokio::test]
async fn a_deleted_queue_is_no_longer_exported() {
    let broker = MemoryBroker::new();
    let exporter = install().expect("installed").broker(broker.clone());
    let producer = Producer::new(broker.clone());
    let task = producer.enqueue(Sized { fails: false }).queue("gone");
    task.await.expect("accepted");
    let gone = [r#"queue="gone""#];
    let sizes = |scrape: &Scrape| scrape.value("asynqueue_queue_size", &gone);
    assert_eq!(sizes(&Scrape::of(&exporter).await), Some(1.0));
    let inspector = Inspector::new(broker);
    inspector
        .delete_queue(&"gone".into(), true)
        .await
        .expect("deleted");
    assert_eq!(sizes(&Scrape::of(&exporter).await), None);
}

#[tokio::test]
async fn the_number_of_exported_queues_is_limited() {
    let broker = MemoryBroker::new();
    let exporter = install()
        .expect("installed")
        .broker(broker.clone())
        .max_queues(3);
    let producer = Producer::new(broker);
    for n in 0..10 {
        let task = producer
            .enqueue(Sized { fails: false })
            .queue(format!("user-{n}"));
        task.await.expect("accepted");
    }
    let scrape = Scrape::of(&exporter).await;
    let sizes = scrape.value("asynqueue_queue_size", &[r#"queue="user-"#]);
    assert_eq!(sizes, Some(3.0));
    assert_eq!(scrape.value("asynqueue_queues", &[]), Some(10.0));
}

/// Untrusted names stay within their label.
#[tokio::test]
async fn names_are_escaped() {
    let broker = MemoryBroker::new();
    let exporter = install().expect("installed").broker(broker.clone());
    let producer = Producer::new(broker);
    let task = producer.enqueue(Sized { fails: false }).queue("a\"1\\");
    task.await.expect("accepted");
    let scrape = Scrape::of(&exporter).await;
    assert!(
        scrape.text().contains(r#"queue="a\"1\\""#),
        "{}",
        scrape.text()
    );
}

/// The list in the documentation is complete.
#[tokio::test]
async fn every_metric_is_documented_and_every_documented_metric_exists() {
    let broker = MemoryBroker::new();
    let exporter = install().expect("installed").broker(broker.clone());
    let producer = Producer::new(broker.clone());
    let task = producer
        .enqueue(Sized { fails: false })
        .await
        .expect("accepted");
    let server = Server::builder(broker)
        .process(run)
        .start()
        .await
        .expect("started");
    task.result().await.expect("done");
    let scrape = until(&exporter, "the server has exported its slots", |scrape| {
        let has = |metric| scrape.value(metric, &[]).is_some();
        has("asynqueue_server_slots") && has("asynqueue_tasks_trimmed_total")
    })
    .await;
    server.shutdown().await.expect("stopped");
    let docs = include_str!("../../../asynqueue-core/src/metrics/names.md");
    let rows = docs.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<_> = rows
        .filter_map(|row| row.split('`').next())
        .map(str::to_owned)
        .collect();
    // These exist only after an error, with an outbox, or with Redis.
    let others = [
        "asynqueue_broker_failures_total",
        "asynqueue_declarations_restored_total",
        "asynqueue_outbox_entries",
        "asynqueue_outbox_errors_total",
        "asynqueue_outbox_oldest_seconds",
        "asynqueue_outbox_relayed_total",
        "asynqueue_queue_archived_max",
        "asynqueue_redis_reconnects_total",
        "asynqueue_redis_script_errors_total",
        "asynqueue_unknown_events_total",
    ];
    let mut expected = documented;
    for other in others {
        assert!(expected.remove(other), "{other}");
    }
    let mut exported = scrape.names();
    exported.retain(|name| !others.contains(&name.as_str()));
    assert_eq!(exported, expected);
}
