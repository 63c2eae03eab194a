//! Calls beside another one that has not been committed yet.

mod common;

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{Keep, Outcome, Page, Store, all_of},
    process::Progress,
    task::{Name, TaskState},
};
use asynqueue_postgres::PostgresBroker;
use asynqueue_test_servers::{Postgres, eventually};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

async fn start() -> (Arc<Postgres>, String, PostgresBroker) {
    let server = Postgres::shared().await;
    let url = server.new_schema();
    let broker = common::open(&url).await;
    (server, url, broker)
}

/// Completes once a call is done, or waits for the other transaction.
async fn done_or_waiting<T>(call: &JoinHandle<T>, url: &str, function: &str) {
    let look = Postgres::connect(url).await;
    let (_, schema) = url.split_once("?schema=").expect("a schema");
    let waiting = format!(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%{schema}%{function}%'"
    );
    eventually("the call waits or is done", async || {
        call.is_finished() || count(&look, &waiting).await > 0
    })
    .await;
}

async fn count(client: &Client, sql: &str) -> i64 {
    let row = client.query_one(sql, &[]).await;
    row.expect("a row").get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_calls_trim_no_more_than_one() {
    let (_server, url, broker) = start().await;
    for task in ["1", "2", "3", "4", "5"] {
        common::enqueue(&broker, task).await.expect("a task");
        let leased = common::lease(&broker, 1).await.expect("a lease");
        let archived = common::settle(&broker, &leased[0], Outcome::Archive).await;
        archived.expect("an outcome");
    }
    let mut other = Postgres::connect(&url).await;
    let (_, schema) = url.split_once("?schema=").expect("a schema");
    let first = other.transaction().await.expect("begun");
    let sql =
        format!("select by_count from \"{schema}\".trim(array['q'], 86400000, 3, 100, 0, null)");
    let row = first.query_one(&sql, &[]).await.expect("trimmed");
    assert_eq!(row.get::<_, i32>(0), 2);
    let trimming = broker.clone();
    let second = tokio::spawn(async move {
        let keep = Keep::new(Duration::from_secs(86_400), 3);
        all_of(Store::trim(&trimming, &[Name::from("q")], keep, 100).await)
    });
    done_or_waiting(&second, &url, "trim").await;
    first.commit().await.expect("committed");
    second.await.expect("no panic").expect("a result");
    let archived = Store::list(&broker, &"q".into(), TaskState::Archived, Page::first(10)).await;
    let archived = archived.expect("a list").tasks;
    let left: Vec<_> = archived
        .iter()
        .map(|task| task.envelope.id.as_str())
        .collect();
    assert_eq!(left, ["5", "4", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_that_arrives_with_the_outcome_leaves_nothing() {
    let (_server, url, broker) = start().await;
    common::enqueue(&broker, "task").await.expect("a task");
    let leased = common::lease(&broker, 1).await.expect("a lease").remove(0);
    let mut other = Postgres::connect(&url).await;
    // What the outcome of a completed task does.
    let outcome = other.transaction().await.expect("begun");
    let end = "delete from lease; delete from running; delete from task";
    outcome.batch_execute(end).await.expect("ended");
    let reporting = tokio::spawn(async move {
        let progress = vec![(leased.lease(), Progress::new(1, 2, "at it"))];
        Store::report(&broker, progress).await
    });
    done_or_waiting(&reporting, &url, "report").await;
    outcome.commit().await.expect("committed");
    reporting.await.expect("no panic").expect("reported");
    assert_eq!(count(&other, "select count(*) from running").await, 0);
}
