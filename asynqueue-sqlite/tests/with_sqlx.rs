//! Tasks and outcomes in transactions of `sqlx`.

use std::{path::PathBuf, time::Duration};

use asynqueue_core::{
    broker::{Broker, Conflict, Inspect},
    memory::MemoryBroker,
    outbox::{Outbox, Relay},
    process::{Context, Payload, State, TaskError},
    producer::{EnqueueError, Producer},
    server::Server,
    task::{Aggregate, TaskState},
    testing::drain,
};
use asynqueue_macros::Task;
use asynqueue_sqlite::{CompleteInSqlx, SqliteBroker, SqliteOptions, SqliteOutbox};
use serde::{Deserialize, Serialize};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

#[derive(Clone, Serialize, Deserialize, Task)]
#[task(event = "credit", crate = asynqueue_core, output = u64, retention = "1h")]
struct Credit {
    cents: u64,
}

async fn open() -> (TempDir, PathBuf, SqliteBroker, Producer) {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("shop.db");
    let broker = SqliteBroker::connect(SqliteOptions::file(&path))
        .await
        .expect("a broker");
    let mut db = connect(&path).await;
    let table =
        sqlx::query("create table account (id integer primary key, cents integer not null)");
    table.execute(&mut db).await.expect("a table");
    let producer = Producer::new(broker.clone());
    (folder, path, broker, producer)
}

async fn connect(path: &PathBuf) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::from_secs(10));
    SqliteConnection::connect_with(&options)
        .await
        .expect("a connection")
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_all_kinds_exist_if_and_only_if_their_transaction_is_committed() {
    let (_folder, path, broker, producer) = open().await;
    let mut db = connect(&path).await;
    let limits = Aggregate::default();
    for commits in [false, true] {
        let mut tx = db
            .begin_with("begin immediate")
            .await
            .expect("a transaction");
        let calls = [
            producer.enqueue(Credit { cents: 1 }).id("one"),
            producer.enqueue(Credit { cents: 2 }).priority(3),
            producer
                .enqueue(Credit { cents: 3 })
                .delay(Duration::from_secs(60)),
            producer
                .enqueue(Credit { cents: 4 })
                .unique(Duration::from_secs(60))
                .unique_key("key"),
            producer.enqueue(Credit { cents: 5 }).aggregate(limits),
        ];
        for call in calls {
            broker
                .enqueue_in_sqlx(&mut tx, call.prepare().expect("prepared"))
                .await
                .expect("enqueued");
        }
        for call in [
            producer.enqueue(Credit { cents: 6 }).id("one"),
            producer
                .enqueue(Credit { cents: 7 })
                .unique(Duration::from_secs(60))
                .unique_key("key"),
        ] {
            let refused = broker
                .enqueue_in_sqlx(&mut tx, call.prepare().expect("prepared"))
                .await;
            let refused = refused.expect_err("a conflict");
            assert!(
                matches!(
                    refused,
                    EnqueueError::Conflict(Conflict::Id { .. } | Conflict::Unique { .. })
                ),
                "{refused}"
            );
        }
        match commits {
            true => tx.commit().await.expect("committed"),
            false => tx.rollback().await.expect("rolled back"),
        }
        let stats = broker
            .stats(&["default".into()])
            .await
            .expect("figures")
            .remove(0);
        let count = |state| stats.count(state);
        let counts = (
            count(TaskState::Pending),
            count(TaskState::Scheduled),
            count(TaskState::Aggregating),
        );
        assert_eq!(counts, if commits { (3, 1, 1) } else { (0, 0, 0) });
    }
    let due = broker
        .forward(&["default".into()], 10)
        .await
        .expect("a call");
    assert!(due[0].as_ref().is_ok_and(|due| due.next_due.is_some()));
}

async fn credit(
    State(path): State<PathBuf>,
    task: Payload<Credit>,
    ctx: Context,
) -> Result<u64, TaskError> {
    let mut db = connect(&path).await;
    let mut tx = db
        .begin_with("begin immediate")
        .await
        .map_err(TaskError::retry)?;
    let insert = sqlx::query("insert into account (cents) values (?1)").bind(task.cents as i64);
    insert.execute(&mut *tx).await.map_err(TaskError::retry)?;
    ctx.complete_in_sqlx(&mut tx, &(task.cents * 2))
        .await
        .map_err(TaskError::retry)?;
    tx.commit().await.map_err(TaskError::retry)?;
    Ok(task.cents * 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_is_committed_with_what_the_handler_has_written() {
    let (_folder, path, broker, producer) = open().await;
    let server = Server::builder(broker)
        .queue("default", 1)
        .state(path.clone())
        .process(credit);
    let server = server.start().await.expect("a server");
    let handle = producer
        .enqueue(Credit { cents: 21 })
        .await
        .expect("enqueued");
    assert_eq!(handle.result().await.expect("completed"), 42);
    server.shutdown().await.expect("ended in order");
    let mut db = connect(&path).await;
    let sum: i64 = sqlx::query_scalar("select sum(cents) from account")
        .fetch_one(&mut db)
        .await
        .expect("a row");
    assert_eq!(sum, 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_another_file_is_refused() {
    let (_folder, path, broker, producer) = open().await;
    let (_other_folder, other, ..) = open().await;
    let expected = format!(
        "the broker does not support this: a transaction on `{}`: the tasks are in `{}`; open the connection on that file",
        other.display(),
        path.display()
    );
    let mut db = connect(&other).await;
    let mut tx = db.begin_with("begin immediate").await.expect("begun");
    let task = producer.prepare(Credit { cents: 1 }).expect("prepared");
    let refused = broker.enqueue_in_sqlx(&mut tx, task).await;
    let refused = refused.expect_err("another file").to_string();
    assert_eq!(refused, expected);
    tx.rollback().await.expect("rolled back");

    let task = producer.enqueue(Credit { cents: 1 });
    task.await.expect("enqueued");
    let server = Server::builder(broker).state(other).process(credit);
    let drained = drain(server).await.expect("drained");
    assert_eq!(drained.retried, 1);
    assert_eq!(drained.failures[0].1.message, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_has_read_before_another_wrote_is_refused_with_the_remedy() {
    let (_folder, path, broker, producer) = open().await;
    let mut db = connect(&path).await;
    let mut tx = db.begin().await.expect("begun");
    let read = sqlx::query("select count(*) from account");
    read.fetch_one(&mut *tx).await.expect("read");
    let other = producer.enqueue(Credit { cents: 1 });
    other.await.expect("enqueued");
    let task = producer.prepare(Credit { cents: 2 }).expect("prepared");
    let error = broker.enqueue_in_sqlx(&mut tx, task).await;
    assert_eq!(
        error.expect_err("it is deferred").to_string(),
        format!(
            "the broker is unavailable: the transaction has read `{}` before another program wrote to it: start the transaction as `immediate`",
            path.display()
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_an_outbox_is_relayed_if_and_only_if_its_transaction_is_committed() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("shop.db");
    let outbox = SqliteOutbox::open(&path).await.expect("an outbox");
    let broker = MemoryBroker::new();
    let producer = Producer::new(broker.clone());
    let mut db = connect(&path).await;
    for (cents, commits) in [(1, true), (2, false), (3, true)] {
        let mut tx = db
            .begin_with("begin immediate")
            .await
            .expect("a transaction");
        let task = producer
            .enqueue(Credit { cents })
            .id(format!("credit-{cents}"));
        let task = task.prepare().expect("prepared");
        let handle = outbox
            .enqueue_in_sqlx(&mut tx, task)
            .await
            .expect("written");
        assert_eq!(handle.id().as_str(), format!("credit-{cents}"));
        match commits {
            true => tx.commit().await.expect("committed"),
            false => tx.rollback().await.expect("rolled back"),
        }
    }
    let relay = Relay::new(broker.clone(), outbox.clone()).start();
    while outbox.size().await.expect("a size").waiting > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    relay.shutdown().await;
    let page = broker
        .list(&"default".into(), TaskState::Pending, Default::default())
        .await;
    let ids: Vec<_> = page
        .expect("a list")
        .tasks
        .iter()
        .map(|task| task.envelope.id.to_string())
        .collect();
    assert_eq!(ids, ["credit-1", "credit-3"]);
    // On another file.
    let elsewhere = SqliteConnection::connect("sqlite::memory:").await;
    let task = producer.prepare(Credit { cents: 4 }).expect("prepared");
    let error = outbox
        .enqueue_in_sqlx(&mut elsewhere.expect("a connection"), task)
        .await;
    let error = error.expect_err("another file").to_string();
    assert!(
        error.starts_with("the outbox is unavailable: a transaction on `:memory:`"),
        "{error}"
    );
}
