//! Savepoints: a part of a transaction that is rolled back has no effect, although the rest is committed.

use std::sync::Arc;

use asynqueue_core::{
    broker::{Control, Finished, Inspect},
    process::{Context, Payload, State, TaskError},
    server::Server,
    task::{Name, TaskState},
};
use asynqueue_macros::Task;
use asynqueue_postgres::CompleteIn;
use asynqueue_test_servers::eventually;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{Credit, Shop};

/// A task in a queue that no server leases from.
#[derive(Clone, Serialize, Deserialize, Task)]
#[task(event = "aside", queue = "aside", crate = asynqueue_core)]
struct Aside;

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_a_savepoint_that_is_rolled_back_does_not_exist() {
    let shop = Shop::open().await;
    let mut db = shop.db().await;
    let mut tx = db.transaction().await.expect("begun");
    let task = |cents| shop.producer.prepare(Credit { cents }).expect("prepared");
    shop.broker
        .enqueue_in(&tx, task(1))
        .await
        .expect("enqueued");
    let part = tx.transaction().await.expect("a savepoint");
    shop.broker
        .enqueue_in(&part, task(2))
        .await
        .expect("enqueued");
    part.rollback().await.expect("rolled back");
    let part = tx.transaction().await.expect("a savepoint");
    shop.broker
        .enqueue_in(&part, task(3))
        .await
        .expect("enqueued");
    part.commit().await.expect("released");
    assert_eq!(shop.pending().await, 0);
    tx.commit().await.expect("committed");
    assert_eq!(shop.pending().await, 2);
}

/// What the handlers below have, and when they return.
type Stage = (Arc<Shop>, Arc<Notify>);

/// Completes its task in a savepoint, rolls that back, and commits the rest.
async fn change_its_mind(
    State((shop, is_announced)): State<Stage>,
    _: Payload<Credit>,
    ctx: Context,
) -> Result<u64, TaskError> {
    let mut db = shop.db().await;
    let mut tx = db.transaction().await.map_err(TaskError::retry)?;
    let part = tx.transaction().await.map_err(TaskError::retry)?;
    ctx.complete_in(&part, &1_u64)
        .await
        .map_err(TaskError::retry)?;
    part.rollback().await.map_err(TaskError::retry)?;
    let aside = shop.producer.prepare(Aside).map_err(TaskError::retry)?;
    shop.broker
        .enqueue_in(&tx, aside)
        .await
        .map_err(TaskError::retry)?;
    tx.commit().await.map_err(TaskError::retry)?;
    is_announced.notified().await;
    Err(TaskError::skip_retry("after the rollback"))
}

/// As [`change_its_mind`], with `sqlx`.
#[cfg(feature = "sqlx")]
async fn change_its_mind_in_sqlx(
    State((shop, is_announced)): State<Stage>,
    _: Payload<Credit>,
    ctx: Context,
) -> Result<u64, TaskError> {
    use asynqueue_postgres::CompleteInSqlx;
    use sqlx::Connection;

    let mut db = crate::with_sqlx::connect(&shop.url).await;
    let mut tx = db.begin().await.map_err(TaskError::retry)?;
    let mut part = tx.begin().await.map_err(TaskError::retry)?;
    ctx.complete_in_sqlx(&mut part, &1_u64)
        .await
        .map_err(TaskError::retry)?;
    part.rollback().await.map_err(TaskError::retry)?;
    let aside = shop.producer.prepare(Aside).map_err(TaskError::retry)?;
    shop.broker
        .enqueue_in_sqlx(&mut tx, aside)
        .await
        .map_err(TaskError::retry)?;
    tx.commit().await.map_err(TaskError::retry)?;
    is_announced.notified().await;
    Err(TaskError::skip_retry("after the rollback"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_of_a_savepoint_that_is_rolled_back_reaches_no_waiter() {
    let (shop, is_announced) = (Arc::new(Shop::open().await), Arc::new(Notify::new()));
    let server = Server::builder(shop.broker.clone())
        .state((Arc::clone(&shop), Arc::clone(&is_announced)))
        .process(change_its_mind);
    archived_after_a_savepoint(&shop, &is_announced, server).await;
}

#[cfg(feature = "sqlx")]
#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_of_a_savepoint_of_sqlx_that_is_rolled_back_reaches_no_waiter() {
    let (shop, is_announced) = (Arc::new(Shop::open().await), Arc::new(Notify::new()));
    let server = Server::builder(shop.broker.clone())
        .state((Arc::clone(&shop), Arc::clone(&is_announced)))
        .process(change_its_mind_in_sqlx);
    archived_after_a_savepoint(&shop, &is_announced, server).await;
}

/// Lets a handler return once its transaction was announced, and checks the end that a waiter receives.
async fn archived_after_a_savepoint(
    shop: &Shop,
    is_announced: &Notify,
    server: asynqueue_core::server::ServerBuilder,
) {
    let queues = [Name::from("aside")];
    let mut signals = shop.broker.signals(&queues).await.expect("signals");
    let handle = shop.producer.enqueue(Credit { cents: 1 }).await;
    let handle = handle.expect("enqueued");
    let (broker, task) = (shop.broker.clone(), handle.task_ref().clone());
    let waiter = tokio::spawn(async move { Control::finished(&broker, &task).await });
    eventually("its row", async || shop.rows("waiter").await == 1).await;
    let server = server.start().await.expect("a server");
    // What is announced with this task comes before its signal.
    loop {
        signals.next().await.expect("a signal");
        let figures = shop.broker.stats(&queues).await.expect("figures");
        if figures[0].count(TaskState::Pending) == 1 {
            break;
        }
    }
    is_announced.notify_one();
    let end = waiter.await.expect("no panic").expect("a call");
    assert!(matches!(end, Finished::Archived { .. }), "{end:?}");
    server.shutdown().await.expect("ended in order");
}
