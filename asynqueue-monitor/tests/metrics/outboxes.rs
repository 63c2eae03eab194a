//! The metrics of relays.

use asynqueue_core::{
    memory::MemoryBroker,
    outbox::{Outbox, Relay},
    producer::Producer,
};
use asynqueue_macros::Task;
use asynqueue_monitor::metrics::install;
use asynqueue_sqlite::SqliteOutbox;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::scrape::until;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "relayed", queue = "relayed", crate = asynqueue_core)]
struct Relayed;

#[tokio::test]
async fn a_relay_counts_outcomes_and_shows_what_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("shop.db");
    let exporter = install().expect("installed");
    let outbox = SqliteOutbox::open(&path).await.expect("an outbox");
    let broker = MemoryBroker::new();
    let producer = Producer::new(broker.clone());
    let mut db = Connection::open(&path).expect("a connection");
    let tx = db.transaction().expect("a transaction");
    for id in ["one", "two", "two", "three"] {
        let task = producer.enqueue(Relayed).id(id).prepare();
        let task = task.expect("prepared");
        outbox.enqueue_in(&tx, task).expect("written");
    }
    tx.execute(
        "update asynqueue_outbox set envelope = x'00' where task = 'three'",
        [],
    )
    .expect("changed");
    tx.commit().expect("committed");

    let relay = Relay::new(broker, outbox.clone()).start();
    let shop = r#"outbox="shop.db""#;
    let result = |result: &str| format!("result=\"{result}\"");
    let scrape = until(&exporter, "all are relayed and reported", |scrape| {
        let labels = [shop, &result("failed")];
        let failed = scrape.value("asynqueue_outbox_relayed_total", &labels);
        let left = scrape.value("asynqueue_outbox_entries", &[shop, r#"state="failed""#]);
        failed == Some(1.0) && left == Some(1.0)
    })
    .await;
    let relayed = |outcome: &str| {
        let labels = [shop, &result(outcome)];
        scrape.value("asynqueue_outbox_relayed_total", &labels)
    };
    assert_eq!(relayed("accepted"), Some(2.0));
    assert_eq!(relayed("refused"), Some(1.0));
    let waiting = scrape.value("asynqueue_outbox_entries", &[shop, r#"state="waiting""#]);
    assert_eq!(waiting, Some(0.0));
    let age = scrape.value("asynqueue_outbox_oldest_seconds", &[shop]);
    assert_eq!(age, Some(0.0));
    // Counted when the broker has accepted them, and not when they were written.
    let enqueued = |outcome: &str| {
        let labels = [r#"event="relayed""#, &result(outcome)];
        scrape.value("asynqueue_tasks_enqueued_total", &labels)
    };
    assert_eq!(enqueued("accepted"), Some(2.0));
    assert_eq!(enqueued("duplicate"), Some(1.0));
    assert_eq!(enqueued("failed"), Some(1.0));
    relay.shutdown().await;
    assert_eq!(outbox.size().await.expect("a size").failed, 1);
    until(
        &exporter,
        "a relay that has stopped shows nothing",
        |scrape| {
            scrape.value("asynqueue_outbox_entries", &[shop, r#"state="failed""#]) == Some(0.0)
        },
    )
    .await;
}
