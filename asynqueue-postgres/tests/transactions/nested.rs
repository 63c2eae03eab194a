//! Savepoints: a part of a transaction that is rolled back has no effect, although the rest is committed.

use asynqueue_core::{
    broker::{Control, Finished},
    process::{Context, Payload, State, TaskError},
    server::Server,
};
use asynqueue_postgres::CompleteIn;
use asynqueue_test_servers::{Postgres, eventually};
use tokio::sync::mpsc;

use crate::{Credit, Shop};

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

/// Completes its task in a savepoint, rolls that back, and commits the rest.
async fn change_its_mind(
    State((url, done)): State<(String, mpsc::UnboundedSender<()>)>,
    _: Payload<Credit>,
    ctx: Context,
) -> Result<u64, TaskError> {
    let mut db = Postgres::connect(&url).await;
    let mut tx = db.transaction().await.map_err(TaskError::retry)?;
    let part = tx.transaction().await.map_err(TaskError::retry)?;
    ctx.complete_in(&part, &1_u64)
        .await
        .map_err(TaskError::retry)?;
    part.rollback().await.map_err(TaskError::retry)?;
    tx.commit().await.map_err(TaskError::retry)?;
    done.send(()).map_err(|_| TaskError::retry("no test"))?;
    Err(TaskError::skip_retry("after the rollback"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_of_a_savepoint_that_is_rolled_back_reaches_no_waiter() {
    let shop = Shop::open().await;
    let handle = shop.producer.enqueue(Credit { cents: 1 }).await;
    let handle = handle.expect("enqueued");
    let (broker, task) = (shop.broker.clone(), handle.task_ref().clone());
    let waiter = tokio::spawn(async move { Control::finished(&broker, &task).await });
    eventually("its row", async || shop.rows("waiter").await == 1).await;
    let (done, mut is_done) = mpsc::unbounded_channel::<()>();
    let server = Server::builder(shop.broker.clone())
        .state((shop.url.clone(), done))
        .process(change_its_mind);
    let server = server.start().await.expect("a server");
    is_done.recv().await.expect("committed");
    let end = waiter.await.expect("no panic").expect("a call");
    assert!(matches!(end, Finished::Archived { .. }), "{end:?}");
    server.shutdown().await.expect("ended in order");
}
