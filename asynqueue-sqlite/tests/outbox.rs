//! Tasks in the application's own transactions, which a relay moves to another broker.

use std::{path::PathBuf, sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{Inspect, Page},
    memory::MemoryBroker,
    outbox::{Outbox, Relay, Take, Taken},
    producer::Producer,
    task::{Name, TaskState},
};
use asynqueue_macros::Task;
use asynqueue_sqlite::SqliteOutbox;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

#[derive(Clone, Serialize, Deserialize, Task)]
#[task(event = "credit", crate = asynqueue_core)]
struct Credit {
    cents: u64,
}

/// An application, whose queue is on another broker.
struct Shop {
    folder: TempDir,
    broker: MemoryBroker,
    producer: Producer,
    outbox: SqliteOutbox,
}

impl Shop {
    async fn open() -> Self {
        let folder = TempDir::new().expect("a folder");
        let broker = MemoryBroker::new();
        let shop = Self {
            outbox: SqliteOutbox::open(folder.path().join("shop.db"))
                .await
                .expect("an outbox"),
            producer: Producer::new(broker.clone()),
            folder,
            broker,
        };
        let table = "create table account (id integer primary key, cents integer not null)";
        shop.db().execute_batch(table).expect("a table");
        shop
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("shop.db")
    }

    fn db(&self) -> Connection {
        let db = Connection::open(self.path()).expect("a connection");
        db.busy_timeout(Duration::from_secs(10)).expect("set");
        db
    }

    fn relay(&self) -> asynqueue_core::outbox::RelayHandle {
        Relay::new(self.broker.clone(), self.outbox.clone()).start()
    }

    /// Waits until nothing is left to relay.
    async fn drained(&self) {
        until("all is relayed", async || {
            self.outbox.size().await.expect("a size").waiting == 0
        })
        .await;
    }

    /// The tasks of the broker in a state, oldest first, with the amount of each.
    async fn tasks(&self, state: TaskState) -> Vec<(String, u64)> {
        let page = self
            .broker
            .list(&"default".into(), state, Page::default())
            .await;
        let tasks = page.expect("a list").tasks.into_iter();
        let task = |task: asynqueue_core::broker::TaskInfo| {
            let envelope = &task.envelope;
            let credit: Credit = envelope
                .codec
                .decode::<_, asynqueue_core::codec::MessagePack>(&envelope.payload)
                .expect("a payload");
            (envelope.id.to_string(), credit.cents)
        };
        tasks.map(task).collect()
    }
}

fn begin(db: &mut Connection) -> Transaction<'_> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate);
    tx.expect("a transaction")
}

async fn until(what: &str, is_met: impl AsyncFn() -> bool) {
    let met = async {
        while !is_met().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let met = tokio::time::timeout(Duration::from_secs(30), met).await;
    met.unwrap_or_else(|_| panic!("not met: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_relayed_if_and_only_if_its_transaction_is_committed() {
    let shop = Shop::open().await;
    let relay = shop.relay();
    let (mut db, mut expected) = (shop.db(), Vec::new());
    for (cents, commits) in [(1, true), (2, false), (3, true)] {
        let tx = begin(&mut db);
        tx.execute("insert into account (cents) values (?1)", [cents])
            .expect("inserted");
        let task = shop
            .producer
            .prepare(Credit {
                cents: cents as u64,
            })
            .expect("prepared");
        let task = shop.outbox.enqueue_in(&tx, task).expect("written");
        match commits {
            true => {
                tx.commit().expect("committed");
                expected.push((task.id().to_string(), cents as u64));
            }
            false => tx.rollback().expect("rolled back"),
        }
    }
    shop.drained().await;
    assert_eq!(shop.tasks(TaskState::Pending).await, expected);
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_of_a_transaction_are_enqueued_in_their_order() {
    let shop = Shop::open().await;
    let mut db = shop.db();
    let tx = begin(&mut db);
    let tasks = (0..1_200).map(|cents| shop.producer.prepare(Credit { cents }).expect("prepared"));
    let written = shop.outbox.enqueue_many_in(&tx, tasks).expect("written");
    assert_eq!(written.len(), 1_200);
    tx.commit().expect("committed");
    let relay = shop.relay();
    shop.drained().await;
    relay.shutdown().await;
    let figures = shop
        .broker
        .stats(&["default".into()])
        .await
        .expect("figures");
    assert_eq!(figures[0].count(TaskState::Pending), 1_200);
    let first = shop.tasks(TaskState::Pending).await;
    assert!(
        first
            .iter()
            .enumerate()
            .all(|(place, (_, cents))| *cents == place as u64)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_counts_from_the_transaction() {
    let shop = Shop::open().await;
    let mut db = shop.db();
    let tx = begin(&mut db);
    let task = shop
        .producer
        .enqueue(Credit { cents: 1 })
        .delay(Duration::from_secs(3_600));
    let task = task.prepare().expect("prepared");
    let due = task.task().envelope.enqueued_at + Duration::from_secs(3_600);
    let handle = shop.outbox.enqueue_in(&tx, task).expect("written");
    tx.commit().expect("committed");
    let relay = shop.relay();
    shop.drained().await;
    relay.shutdown().await;
    let found = shop
        .broker
        .tasks(&[handle.task_ref().clone()])
        .await
        .expect("read");
    let found = found[0].as_ref().expect("a task");
    assert_eq!((found.state, found.at), (TaskState::Scheduled, Some(due)));
}

/// A relay waits for the lock of SQLite while the application has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_waits_for_a_transaction_does_not_block_it() {
    let shop = Shop::open().await;
    let mut db = shop.db();
    let tx = begin(&mut db);
    let outbox: Arc<dyn Outbox> = shop.outbox.clone().into();
    let relay = Name::from("relay");
    let waiting = tokio::spawn(async move {
        let take = Take {
            relay: &relay,
            turn: Duration::from_secs(10),
            except: &[],
            limit: 10,
            bytes: 1_000,
        };
        outbox.take(&take).await
    });
    for cents in 0..3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let task = shop.producer.prepare(Credit { cents }).expect("prepared");
        shop.outbox.enqueue_in(&tx, task).expect("written");
    }
    assert!(!waiting.is_finished());
    tx.commit().expect("committed");
    match waiting.await.expect("it ends").expect("taken") {
        Taken::Turn { entries, .. } => assert_eq!(entries.len(), 3),
        Taken::Busy => panic!("nobody else has the turn"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_another_connection_is_noticed() {
    let shop = Shop::open().await;
    shop.outbox.size().await.expect("a size");
    let relay = Name::from("relay");
    let take = Take {
        relay: &relay,
        turn: Duration::from_secs(10),
        except: &[],
        limit: 10,
        bytes: 1_000,
    };
    shop.outbox.take(&take).await.expect("taken");
    let noticed = shop.outbox.changed();
    tokio::pin!(noticed);
    let early = tokio::time::timeout(Duration::from_millis(100), &mut noticed).await;
    assert!(early.is_err(), "nothing was committed");
    let mut db = shop.db();
    let tx = begin(&mut db);
    let task = shop
        .producer
        .prepare(Credit { cents: 1 })
        .expect("prepared");
    shop.outbox.enqueue_in(&tx, task).expect("written");
    tx.commit().expect("committed");
    let noticed = tokio::time::timeout(Duration::from_secs(30), noticed).await;
    noticed.expect("it is noticed");
}

#[tokio::test]
async fn a_transaction_on_another_file_is_refused() {
    let (shop, other) = (Shop::open().await, Shop::open().await);
    let mut db = other.db();
    let tx = begin(&mut db);
    let task = shop
        .producer
        .prepare(Credit { cents: 1 })
        .expect("prepared");
    let error = shop.outbox.enqueue_in(&tx, task).expect_err("another file");
    let expected = format!(
        "the outbox is unavailable: a transaction on `{}`: the tasks are in `{}`; open the connection on that file",
        other.path().display(),
        shop.path().display()
    );
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn tables_of_a_later_version_are_refused() {
    let shop = Shop::open().await;
    let later = "update asynqueue_outbox_meta set version = 7";
    shop.db().execute_batch(later).expect("changed");
    let error = SqliteOutbox::open(shop.path())
        .await
        .expect_err("a later version");
    let expected = format!(
        "`{}` has tables of version 7, and this program supports versions up to 1: use a later version of asynqueue",
        shop.path().display()
    );
    assert_eq!(error.to_string(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_whose_tables_were_emptied_starts_anew() {
    let shop = Shop::open().await;
    let relay = shop.relay();
    let mut db = shop.db();
    for empties in [false, true, false] {
        if empties {
            let empty = "delete from asynqueue_outbox; delete from asynqueue_outbox_meta";
            db.execute_batch(empty).expect("emptied");
        }
        let tx = begin(&mut db);
        let task = shop
            .producer
            .prepare(Credit { cents: 1 })
            .expect("prepared");
        shop.outbox.enqueue_in(&tx, task).expect("written");
        tx.commit().expect("committed");
        shop.drained().await;
    }
    assert_eq!(shop.tasks(TaskState::Pending).await.len(), 3);
    relay.shutdown().await;
}

#[tokio::test]
async fn an_outbox_has_the_name_of_its_file_unless_it_is_named() {
    let shop = Shop::open().await;
    assert_eq!(shop.outbox.name(), "shop.db");
    assert_eq!(shop.outbox.clone().named("orders").name(), "orders");
}
