//! The server is killed, or its connections are terminated, while tasks are enqueued and run.

use std::time::Duration;

use asynqueue_core::{
    broker::{Conflict, Inspect},
    producer::{EnqueueError, Producer},
    task::{Name, TaskState},
};
use asynqueue_postgres::PostgresBroker;
use asynqueue_test_servers::{Postgres, eventually};

use crate::{Count, common, counting, tables};

/// Enqueues these tasks, each until it is accepted.
async fn produce(producer: Producer, tasks: std::ops::Range<u64>) {
    for n in tasks {
        loop {
            let enqueue = producer.enqueue(Count(n)).id(n.to_string());
            match enqueue.await {
                // Its first response was lost.
                Ok(_) | Err(EnqueueError::Conflict(Conflict::Id { .. })) => break,
                Err(EnqueueError::Broker(error)) if error.is_temporary() => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

async fn succeeded(broker: &PostgresBroker) -> u64 {
    let stats = broker.stats(&[Name::from("default")]).await;
    stats.map_or(0, |stats| stats[0].succeeded)
}

/// Each task was completed, and each completion counts once.
async fn all_completed(broker: &PostgresBroker, server: &Postgres, tasks: u64) {
    eventually("all tasks are completed", async || {
        succeeded(broker).await >= tasks
    })
    .await;
    let stats = broker.stats(&[Name::from("default")]).await;
    let stats = stats.expect("figures").remove(0);
    assert_eq!(
        (stats.succeeded, stats.count(TaskState::Completed)),
        (tasks, tasks)
    );
    assert_eq!(stats.total(), tasks, "{stats:?}");
    let problems = tables::problems(&server.client().await).await;
    assert_eq!(problems.expect("a check"), [""; 0]);
}

const TASKS: u64 = 600;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_resumes_after_postgres_was_killed_and_has_lost_nothing() {
    let mut postgres = Postgres::fast().await;
    let url = postgres.url();
    let worker = common::open(&url).await;
    let (server, _) = counting(worker.clone(), Duration::from_secs(3)).await;
    let producing = tokio::spawn(produce(Producer::new(common::open(&url).await), 0..TASKS));
    for part in 1..4 {
        let at_least = part * TASKS / 5;
        eventually("tasks run", async || succeeded(&worker).await >= at_least).await;
        postgres.kill();
        postgres.restart().await;
    }
    producing.await.expect("no panic");
    all_completed(&worker, &postgres, TASKS).await;
    server.shutdown().await.expect("ended in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn terminated_connections_are_replaced_and_nothing_is_lost() {
    let postgres = Postgres::fast().await;
    let url = postgres.url();
    let worker = common::open(&url).await;
    let (server, _) = counting(worker.clone(), Duration::from_secs(3)).await;
    let producing = tokio::spawn(produce(Producer::new(common::open(&url).await), 0..TASKS));
    let db = postgres.client().await;
    let others = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
         where backend_type = 'client backend' and pid <> pg_backend_pid()";
    let mut terminated = 0;
    while !producing.is_finished() {
        let row = db.query_one(others, &[]).await.expect("a superuser may");
        terminated += row.get::<_, i64>(0);
        // Some calls are made between two of them.
        let before = succeeded(&worker).await;
        eventually("tasks run", async || {
            producing.is_finished() || succeeded(&worker).await > before
        })
        .await;
    }
    producing.await.expect("no panic");
    assert!(terminated > 10, "{terminated}");
    all_completed(&worker, &postgres, TASKS).await;
    server.shutdown().await.expect("ended in order");
}
