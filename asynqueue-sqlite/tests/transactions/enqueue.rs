//! Tasks in transactions of the application.

use std::time::Duration;

use asynqueue_core::{
    broker::{Conflict, Control, Inspect, Signal},
    producer::{EnqueueError, Producer},
    task::Name,
};
use asynqueue_sqlite::{SqliteBroker, SqliteOptions};
use futures_util::StreamExt;
use rusqlite::Connection;

use crate::{Credit, Once, Shop, add, begin, connect};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_exists_if_and_only_if_its_transaction_is_committed() {
    let shop = Shop::open().await;
    let mut db = shop.db();
    for (cents, commits) in [(1, true), (2, false), (3, true)] {
        let tx = begin(&mut db);
        add(&tx, cents);
        let task = shop.producer.prepare(Credit { cents }).expect("prepared");
        let handle = shop.broker.enqueue_in(&tx, task).expect("enqueued");
        let before = shop
            .broker
            .tasks(&[handle.task_ref().clone()])
            .await
            .expect("read");
        assert_eq!(before, [None], "it is visible before the commit");
        match commits {
            true => tx.commit().expect("committed"),
            false => tx.rollback().expect("rolled back"),
        }
        let after = shop
            .broker
            .tasks(&[handle.task_ref().clone()])
            .await
            .expect("read");
        assert_eq!(after[0].is_some(), commits);
    }
    assert_eq!((shop.pending().await, shop.credited().0), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_hears_of_a_task_after_the_commit() {
    let shop = Shop::open().await;
    let queue = Name::from("default");
    let mut signals = shop
        .broker
        .signals(std::slice::from_ref(&queue))
        .await
        .expect("signals");
    let mut db = shop.db();
    let tx = begin(&mut db);
    let task = shop
        .producer
        .prepare(Credit { cents: 1 })
        .expect("prepared");
    shop.broker.enqueue_in(&tx, task).expect("enqueued");
    let early = tokio::time::timeout(Duration::from_millis(50), signals.next()).await;
    assert!(early.is_err(), "{early:?} before the commit");
    tx.commit().expect("committed");
    assert_eq!(signals.next().await, Some(Signal::Pending(queue)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_task_leaves_the_transaction_as_it_was() {
    let shop = Shop::open().await;
    let mut db = shop.db();
    let tx = begin(&mut db);
    add(&tx, 1);
    let enqueue = || {
        shop.broker
            .enqueue_in(&tx, shop.producer.prepare(Once { key: 7 })?)
    };
    enqueue().expect("accepted");
    let refused = enqueue().expect_err("its lock is held");
    assert!(
        matches!(refused, EnqueueError::Conflict(Conflict::Unique { .. })),
        "{refused}"
    );
    let tasks = [8, 7, 9].map(|key| shop.producer.prepare(Once { key }).expect("prepared"));
    let results = shop.broker.enqueue_many_in(&tx, tasks).expect("enqueued");
    assert_eq!(
        results.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false, true]
    );
    tx.commit().expect("committed");
    assert_eq!((shop.pending().await, shop.credited().0), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_another_file_is_refused() {
    let shop = Shop::open().await;
    let other = shop.path.with_file_name("other.db");
    let mut db = connect(&other);
    let task = shop
        .producer
        .prepare(Credit { cents: 1 })
        .expect("prepared");
    let error = shop
        .broker
        .enqueue_in(&begin(&mut db), task)
        .expect_err("another file")
        .to_string();
    assert!(
        error.contains("other.db") && error.contains("shop.db"),
        "{error}"
    );

    let mut in_memory = Connection::open_in_memory().expect("a connection");
    let task = shop
        .producer
        .prepare(Credit { cents: 1 })
        .expect("prepared");
    let error = shop
        .broker
        .enqueue_in(&begin(&mut in_memory), task)
        .expect_err("no file")
        .to_string();
    assert!(
        error.contains("`:memory:`") && error.contains("shop.db"),
        "{error}"
    );

    let memory = SqliteBroker::connect(SqliteOptions::memory())
        .await
        .expect("a broker");
    let task = Producer::new(memory.clone())
        .prepare(Credit { cents: 1 })
        .expect("prepared");
    let error = memory
        .enqueue_in(&begin(&mut db), task)
        .expect_err("no file")
        .to_string();
    assert!(error.contains("use a file"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_in_a_file_that_was_deleted_is_refused() {
    let shop = Shop::open().await;
    let mut db = shop.db();
    let tx = begin(&mut db);
    std::fs::remove_file(&shop.path).expect("deleted");
    let task = shop
        .producer
        .prepare(Credit { cents: 1 })
        .expect("prepared");
    let error = shop.broker.enqueue_in(&tx, task).expect_err("it is gone");
    assert_eq!(
        error.to_string(),
        format!(
            "the broker is unavailable: `{}` was deleted or moved: move it back, or restart the program to start with an empty file",
            shop.path.display()
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_has_read_before_another_wrote_is_refused_with_the_remedy() {
    let shop = Shop::open().await;
    let mut db = shop.db();
    let tx = db.transaction().expect("a deferred transaction");
    let read = "select count(*) from account";
    tx.query_row(read, [], |row| row.get::<_, i64>(0))
        .expect("read");
    let other = shop.producer.enqueue(Credit { cents: 1 });
    other.await.expect("enqueued");
    let task = shop
        .producer
        .prepare(Credit { cents: 2 })
        .expect("prepared");
    let error = shop
        .broker
        .enqueue_in(&tx, task)
        .expect_err("it is deferred");
    assert_eq!(
        error.to_string(),
        format!(
            "the broker is unavailable: the transaction has read `{}` before another program wrote to it: start the transaction as `immediate`",
            shop.path.display()
        )
    );
    tx.rollback().expect("rolled back");
    assert_eq!(shop.pending().await, 1);
}
