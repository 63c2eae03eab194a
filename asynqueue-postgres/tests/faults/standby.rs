//! A failover: the primary is killed, and its standby is promoted. The URL names both.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::Inspect, process::Payload, producer::Producer, server::Server, task::Name,
};
use asynqueue_test_servers::{Postgres, eventually};
use tokio::sync::{Semaphore, mpsc};

use crate::{Count, common, tables};

/// Waits until the standby has everything that the primary has committed.
async fn has_caught_up(primary: &Postgres, standby: &Postgres) {
    let (primary, standby) = (primary.client().await, standby.client().await);
    eventually("the standby has caught up", async || {
        let written = primary
            .query_one("select pg_current_wal_lsn()::text", &[])
            .await;
        let written: String = written.expect("a position").get(0);
        let replayed = "select pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
        standby
            .query_one(replayed, &[&written])
            .await
            .expect("a row")
            .get(0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn running_tasks_are_completed_on_a_promoted_standby() {
    let mut primary = Postgres::fast().await;
    let standby = primary.standby().await;
    let url = format!(
        "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres?target_session_attrs=read-write",
        primary.port(),
        standby.port()
    );
    let broker = common::open(&url).await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let count = move |_: Payload<Count>| {
        let (started, gate) = (started.clone(), Arc::clone(&gate));
        async move {
            started.send(()).expect("a test");
            gate.acquire().await.expect("open").forget();
            Ok::<_, std::convert::Infallible>(())
        }
    };
    let server = Server::builder(broker.clone())
        .queue("default", 1)
        .concurrency(4)
        .lease(Duration::from_secs(30))
        .process(count);
    let server = server.start().await.expect("a server");
    let producer = Producer::new(broker.clone());
    for n in 0..20 {
        producer.enqueue(Count(n)).await.expect("enqueued");
    }
    for _ in 0..4 {
        starts.recv().await.expect("a task starts");
    }
    has_caught_up(&primary, &standby).await;
    primary.kill();
    standby.execute("select pg_promote()").await;
    opened.add_permits(30);
    // Also by another process, and with calls that meet a dead host first.
    let other = Producer::new(common::open(&url).await);
    for n in 20..30 {
        other.enqueue(Count(n)).await.expect("enqueued");
    }
    eventually("all tasks are completed", async || {
        let stats = broker.stats(&[Name::from("default")]).await;
        stats.is_ok_and(|stats| stats[0].succeeded == 30)
    })
    .await;
    server.shutdown().await.expect("ended in order");
    let problems = tables::problems(&standby.client().await).await;
    assert_eq!(problems.expect("a check"), [""; 0]);
}

#[tokio::test]
async fn a_call_on_a_standby_is_an_error_that_names_the_remedy() {
    let primary = Postgres::fast().await;
    let standby = primary.standby().await;
    let broker = common::open(&primary.url()).await;
    has_caught_up(&primary, &standby).await;
    let url = format!("{}?retry_for=0s", standby.url());
    let on_standby = common::open(&url).await;
    let error = common::enqueue(&on_standby, "task")
        .await
        .expect_err("it is read-only");
    assert_eq!(
        error.to_string(),
        format!(
            "the broker is unavailable: 127.0.0.1:{}: cannot execute INSERT in a read-only transaction: this server is a \
             standby, or the role has `default_transaction_read_only`; list all servers in the URL, with \
             `target_session_attrs=read-write`, or remove the setting",
            standby.port()
        )
    );
    common::work(&broker, "task").await;
}
