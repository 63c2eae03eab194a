//! Limits that an administrator has set for the role, or for the server.

use std::time::Duration;

use asynqueue_core::{
    broker::{BrokerError, Store},
    producer::{EnqueueError, Producer},
};
use asynqueue_postgres::PostgresBroker;
use asynqueue_test_servers::{Postgres, eventually};

use crate::{Once, common, role};

/// A broker whose calls are repeated for a short time.
async fn impatient(url: &str) -> PostgresBroker {
    let options = common::options(url).retry_for(Duration::from_millis(300));
    PostgresBroker::connect(options).await.expect("a broker")
}

#[tokio::test]
async fn a_call_that_waits_longer_than_a_limit_of_the_role_fails_alone() {
    let server = Postgres::shared().await;
    let limits = [
        (
            "statement_timeout = '200ms'",
            "canceling statement due to statement timeout",
        ),
        (
            "lock_timeout = '200ms'",
            "canceling statement due to lock timeout",
        ),
    ];
    for (setting, expected) in limits {
        let (url, _) = role(&server, &[setting]).await;
        let broker = impatient(&url).await;
        let producer = Producer::new(broker.clone());
        let mut db = Postgres::connect(&url).await;
        let tx = db.transaction().await.expect("begun");
        let task = producer.prepare(Once(0)).expect("prepared");
        broker.enqueue_in(&tx, task).await.expect("accepted");
        let error = producer
            .enqueue(Once(0))
            .await
            .expect_err("it waits too long");
        let is_temporary = matches!(&error, EnqueueError::Broker(error) if error.is_temporary());
        assert!(is_temporary, "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
        common::work(&broker, "task").await;
        tx.rollback().await.expect("an end");
        producer.enqueue(Once(0)).await.expect("accepted");
    }
}

#[tokio::test]
async fn an_idle_transaction_that_the_server_ends_has_no_task_and_holds_nothing() {
    let server = Postgres::shared().await;
    let (url, name) = role(&server, &["idle_in_transaction_session_timeout = '200ms'"]).await;
    let broker = common::open(&url).await;
    let producer = Producer::new(broker.clone());
    let mut db = Postgres::connect(&url).await;
    let tx = db.transaction().await.expect("begun");
    let task = producer.prepare(Once(0)).expect("prepared");
    let handle = broker.enqueue_in(&tx, task).await.expect("accepted");
    let admin = server.client().await;
    eventually("the transaction has ended", async || {
        let open = "select count(*) from pg_stat_activity where usename = $1 and state = 'idle in transaction'";
        let row = admin.query_one(open, &[&name]).await.expect("a row");
        row.get::<_, i64>(0) == 0
    })
    .await;
    tx.commit().await.expect_err("it was ended");
    let found = broker.tasks(&[handle.task_ref().clone()]).await;
    assert_eq!(found.expect("read"), [None]);
    producer.enqueue(Once(0)).await.expect("the lock is free");
    // Its own transactions of several statements are not idle for long.
    common::enqueue(&broker, "task").await.expect("accepted");
    let deleted =
        asynqueue_core::broker::Control::delete(&broker, &[common::task_ref("task")]).await;
    assert_eq!(deleted.expect("a call"), [true]);
}

#[tokio::test]
async fn without_a_free_connection_the_error_names_the_remedy_and_work_resumes_with_one() {
    // Three of them are for superusers.
    let server = Postgres::with(&["max_connections=8", "max_wal_senders=0", "fsync=off"]).await;
    let (url, name) = role(&server, &[]).await;
    let broker = impatient(&url).await;
    common::work(&broker, "first").await;
    let admin = server.client().await;
    let own = "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1";
    admin.query(own, &[&name]).await.expect("terminated");
    let mut others = Vec::new();
    let plain = url.split_once('?').expect("a schema").0.to_owned();
    while let Ok((client, connection)) =
        tokio_postgres::connect(&plain, tokio_postgres::NoTls).await
    {
        tokio::spawn(connection);
        others.push(client);
    }
    let error = common::enqueue(&broker, "second")
        .await
        .expect_err("no connection");
    assert!(matches!(error, BrokerError::Unavailable(_)), "{error:?}");
    let error = error.to_string();
    assert!(
        error.ends_with(": lower `pool_size`, or raise `max_connections`"),
        "{error}"
    );
    let error = PostgresBroker::connect(common::options(&url)).await;
    let error = error.expect_err("no connection").to_string();
    assert!(error.contains("raise `max_connections`"), "{error}");
    drop(others);
    eventually("a connection is free", async || broker.ping().await.is_ok()).await;
    common::work(&broker, "second").await;
}

#[tokio::test]
async fn a_role_that_may_only_read_gets_an_error_that_names_the_setting() {
    let server = Postgres::shared().await;
    let (url, name) = role(&server, &[]).await;
    let broker = impatient(&url).await;
    common::work(&broker, "first").await;
    let set = format!("alter role {name} set default_transaction_read_only = on");
    server.execute(&set).await;
    let broken = impatient(&format!("{url}&migrate=false")).await;
    let error = common::enqueue(&broken, "second")
        .await
        .expect_err("read-only");
    assert!(matches!(error, BrokerError::Unavailable(_)), "{error:?}");
    let error = error.to_string();
    assert!(error.contains("`default_transaction_read_only`"), "{error}");
    // Reading works.
    broken.stats(&["q".into()]).await.expect("figures");
    let reset = format!("alter role {name} reset default_transaction_read_only");
    server.execute(&reset).await;
    common::work(&broken, "second").await;
}
