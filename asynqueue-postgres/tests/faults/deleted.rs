//! A queue is deleted while transactions use it.

use std::time::Duration;

use asynqueue_core::broker::{BrokerError, Store};
use asynqueue_test_servers::Postgres;

use crate::{common, waiting};

/// Begins a transaction that uses queue `q`, as `enqueue_in` does.
const USE: &str = "begin; select queue_of('q')";

#[tokio::test]
async fn deleting_a_queue_that_an_open_transaction_uses_is_an_error_and_others_resume() {
    let server = Postgres::shared().await;
    let url = server.new_schema();
    let broker = common::open(&url).await;
    common::work(&broker, "first").await;
    let (program, db) = (Postgres::connect(&url).await, Postgres::connect(&url).await);
    program.batch_execute(USE).await.expect("begun");
    let deleter = common::open(&url).await;
    let deleting =
        tokio::spawn(async move { Store::delete_queue(&deleter, &"q".into(), true).await });
    waiting(&db, "advisory", 1).await;
    // It waits behind, and resumes.
    common::work(&broker, "second").await;
    let error = deleting.await.expect("no panic").expect_err("it is used");
    assert!(matches!(error, BrokerError::Unavailable(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!(
            "the broker is unavailable: 127.0.0.1:{}: queue \"q\" is used by a transaction that is still open: end it, or \
             try again later",
            server.port()
        )
    );
    program.batch_execute("rollback").await.expect("an end");
    let deleted = Store::delete_queue(&broker, &"q".into(), true).await;
    assert!(deleted.expect("a result"));
    assert_eq!(broker.queues().await.expect("names"), [""; 0]);
    common::work(&broker, "third").await;
}

#[tokio::test]
async fn a_transaction_in_another_schema_does_not_keep_a_queue_from_being_deleted() {
    let server = Postgres::shared().await;
    let (one, other) = (server.new_schema(), server.new_schema());
    let broker = common::open(&one).await;
    common::work(&broker, "task").await;
    common::work(&common::open(&other).await, "task").await;
    let program = Postgres::connect(&other).await;
    program.batch_execute(USE).await.expect("begun");
    let deleted = Store::delete_queue(&broker, &"q".into(), true).await;
    assert!(deleted.expect("a result"));
}

/// The deletion is behind one transaction, and a call that enqueues is behind the deletion.
async fn enqueue_behind_a_deletion(url: &str) {
    let broker = common::open(url).await;
    common::work(&broker, "first").await;
    let (program, db) = (Postgres::connect(url).await, Postgres::connect(url).await);
    program.batch_execute(USE).await.expect("begun");
    let deleter = common::open(url).await;
    let deleting =
        tokio::spawn(async move { Store::delete_queue(&deleter, &"q".into(), false).await });
    waiting(&db, "advisory", 1).await;
    let enqueuer = broker.clone();
    let enqueuing = tokio::spawn(async move { common::enqueue(&enqueuer, "second").await });
    waiting(&db, "advisory", 2).await;
    program.batch_execute("commit").await.expect("an end");
    assert!(deleting.await.expect("no panic").expect("a result"));
    enqueuing.await.expect("no panic").expect("accepted");
    assert_eq!(common::drain(&broker).await, ["second"]);
}

#[tokio::test]
async fn a_task_that_waits_for_a_deletion_is_in_the_new_queue() {
    let server = Postgres::shared().await;
    enqueue_behind_a_deletion(&server.new_schema()).await;
}

#[tokio::test]
async fn a_task_that_waits_for_a_deletion_is_in_the_new_queue_if_the_role_is_stricter() {
    let server = Postgres::shared().await;
    for level in ["repeatable read", "serializable"] {
        let setting = format!("default_transaction_isolation = '{level}'");
        let (url, _) = crate::role(&server, &[&setting]).await;
        enqueue_behind_a_deletion(&url).await;
    }
}

#[tokio::test]
async fn a_stricter_transaction_that_is_older_than_a_deletion_fails_instead_of_losing_its_task() {
    let server = Postgres::shared().await;
    let url = server.new_schema();
    let broker = common::open(&url).await;
    let producer = asynqueue_core::producer::Producer::new(broker.clone());
    producer.enqueue(crate::Count(0)).await.expect("enqueued");
    let mut db = Postgres::connect(&url).await;
    for level in ["repeatable read", "serializable"] {
        let tx = db.transaction().await.expect("begun");
        let begin = format!("set transaction isolation level {level}; select 1");
        tx.batch_execute(&begin).await.expect("a snapshot");
        let deleted = Store::delete_queue(&broker, &"default".into(), true).await;
        assert!(deleted.expect("a result"));
        let task = || producer.prepare(crate::Count(1)).expect("prepared");
        let error = broker
            .enqueue_in(&tx, task())
            .await
            .expect_err("it is too old");
        let error = error.to_string();
        assert!(error.contains("could not serialize access"), "{error}");
        tx.rollback().await.expect("rolled back");
        // As the application does after such a failure.
        for _ in 0..2 {
            let tx = db.transaction().await.expect("begun");
            let begin = format!("set transaction isolation level {level}; select 1");
            tx.batch_execute(&begin).await.expect("a snapshot");
            if broker.enqueue_in(&tx, task()).await.is_ok() {
                tx.commit().await.expect("committed");
                break;
            }
        }
        let stats = broker.stats(&["default".into()]).await.expect("figures");
        assert_eq!(stats[0].total(), 1, "{level}");
    }
    tokio::time::timeout(Duration::from_secs(60), broker.close())
        .await
        .expect("closed");
}
