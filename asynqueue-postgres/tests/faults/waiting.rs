//! Callers that wait for an open transaction, as for the lock of a unique task: they leave connections to the servers and
//! producers of their program, and their calls are not joined with tasks that wait for nobody.

use std::time::Duration;

use asynqueue_core::producer::Producer;
use asynqueue_test_servers::{Postgres, eventually};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::{Count, Once, common, open::Shop};

/// More than a broker has connections.
const CALLERS: usize = 12;

/// The calls of a schema that wait for a transaction.
async fn waiting(db: &Client, url: &str) -> i64 {
    let schema = common::options(url).schema_name().to_owned();
    let sql = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and position($1 in query) > 0";
    let row = db.query_one(sql, &[&schema]).await;
    row.expect("a count").get(0)
}

/// Callers that enqueue until they are stopped, however often they fail.
fn callers<T>(producer: &Producer, call: fn(Producer) -> T) -> JoinSet<()>
where
    T: Future<Output = ()> + Send + 'static,
{
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let producer = producer.clone();
        callers.spawn(async move {
            loop {
                call(producer.clone()).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    callers
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_wait_for_a_unique_lock_leave_a_connection_to_others() {
    let shop = Shop::open().await;
    let mut db = Postgres::connect(&shop.url).await;
    let tx = db.transaction().await.expect("begun");
    let held = shop.producer.enqueue(Once(0)).queue("q");
    let held = held.prepare().expect("prepared");
    shop.broker.enqueue_in(&tx, held).await.expect("accepted");
    let retried = common::enqueue(&shop.broker, "retried").await;
    retried.expect("accepted");
    let callers = callers(&shop.producer, |producer| async move {
        // Fails after a time.
        let _ = producer.enqueue(Once(0)).queue("q").await;
    });
    eventually("the callers wait", async || {
        waiting(&shop.program, &shop.url).await >= 3
    })
    .await;
    shop.servers_work().await;
    // One with an id of its own may wait for its turn among the callers.
    let plain = shop.producer.enqueue(Count(0)).queue("q").await;
    plain.expect("accepted");
    drop(callers);
    tx.rollback().await.expect("rolled back");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_wait_for_an_id_delay_no_task_without_an_id_of_its_own() {
    let shop = Shop::open().await;
    let mut db = Postgres::connect(&shop.url).await;
    let tx = db.transaction().await.expect("begun");
    let held = shop.producer.enqueue(Count(0)).queue("q").id("taken");
    let held = held.prepare().expect("prepared");
    shop.broker.enqueue_in(&tx, held).await.expect("accepted");
    let callers = callers(&shop.producer, |producer| async move {
        // Fails after a time.
        let _ = producer.enqueue(Count(0)).queue("q").id("taken").await;
    });
    // The second one has those that have arrived in the meantime.
    eventually("the callers wait", async || {
        waiting(&shop.program, &shop.url).await >= 2
    })
    .await;
    let mut plain = JoinSet::new();
    for number in 0..50 {
        let producer = shop.producer.clone();
        plain.spawn(async move { producer.enqueue(Count(number)).queue("q").await.map(drop) });
    }
    for accepted in plain.join_all().await {
        accepted.expect("accepted");
    }
    drop(callers);
    tx.rollback().await.expect("rolled back");
}
