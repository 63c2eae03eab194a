//! Calls beside another one that has not been committed yet.

mod common;

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{Change, Edit, Edited, Keep, Outcome, Page, Store, all_of},
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

/// Reports lock leases in the order in which outcomes do, whatever the order of the call.
#[tokio::test(flavor = "multi_thread")]
async fn progress_of_tasks_in_any_order_waits_with_no_lock_on_later_ones() {
    let (_server, url, broker) = start().await;
    for task in ["first", "last"] {
        common::enqueue(&broker, task).await.expect("a task");
    }
    let leased = common::lease(&broker, 2).await.expect("leases");
    let mut other = Postgres::connect(&url).await;
    let outcome = other.transaction().await.expect("begun");
    let lock = "select from lease where turn = (select min(turn) from lease) for update";
    outcome.batch_execute(lock).await.expect("locked");
    let progress = { leased.iter().rev() }
        .map(|leased| (leased.lease(), Progress::new(1, 2, "at it")))
        .collect();
    let reporting = tokio::spawn(async move { Store::report(&broker, progress).await });
    done_or_waiting(&reporting, &url, "report").await;
    let next = "select from lease where turn = (select max(turn) from lease) for update nowait";
    outcome.batch_execute(next).await.expect("no deadlock");
    outcome.rollback().await.expect("an end");
    reporting.await.expect("no panic").expect("reported");
    assert_eq!(count(&other, "select count(*) from running").await, 2);
}

/// Its snapshot is older than the progress, so it leaves that to the upkeep.
#[tokio::test]
async fn progress_that_a_stricter_transaction_does_not_see_is_trimmed() {
    for level in ["repeatable read", "serializable"] {
        let (_server, url, broker) = start().await;
        common::enqueue(&broker, "task").await.expect("a task");
        let leased = common::lease(&broker, 1).await.expect("a lease").remove(0);
        let handler = Postgres::connect(&url).await;
        let begin = format!("begin isolation level {level}; select from task");
        handler.batch_execute(&begin).await.expect("begun");
        let progress = vec![(leased.lease(), Progress::new(1, 2, "at it"))];
        Store::report(&broker, progress).await.expect("reported");
        // What `complete_in` does.
        let complete = "select outcome::bigint from complete('q', (select id from task), (select token from lease), \
             null, null, null, null, null)";
        assert_eq!(count(&handler, complete).await, 1);
        handler.batch_execute("commit").await.expect("committed");
        let left = "select count(*) from running";
        assert_eq!(count(&handler, left).await, 1, "{level}");
        let trimmed = Store::trim(&broker, &[Name::from("q")], Keep::default(), 100).await;
        all_of(trimmed).expect("trimmed");
        assert_eq!(count(&handler, left).await, 0, "{level}");
    }
}

/// A set of one document that does not exist yet, as call 1 of a lane.
fn swap(again: bool) -> String {
    format!(
        "select is_done::integer::bigint from swap(array['servers'], array['a'], array[0::bigint], array[1::smallint], \
         array['one'::bytea], null, 'lane', 1, {again}) where n = 0"
    )
}

/// The client has given up the first request, which is still open.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_is_made_again_beside_its_first_request_is_made_once() {
    let (_server, url, _broker) = start().await;
    let mut client = Postgres::connect(&url).await;
    let first = client.transaction().await.expect("begun");
    let made = first.query_one(&swap(false), &[]).await.expect("a row");
    assert_eq!(made.get::<_, i64>(0), 1);
    let other = Postgres::connect(&url).await;
    let again = tokio::spawn(async move { count(&other, &swap(true)).await });
    let look = Postgres::connect(&url).await;
    let waiting = "select count(*) from pg_stat_activity where wait_event = 'advisory' \
         and query like '%from swap(%' and datname = current_database()";
    eventually("the call waits or is done", async || {
        again.is_finished() || count(&look, waiting).await > 0
    })
    .await;
    first.commit().await.expect("committed");
    assert_eq!(again.await.expect("no panic"), 1, "it was made");
}

#[tokio::test]
async fn a_set_that_was_refused_is_refused_when_it_is_made_again() {
    let (_server, url, _broker) = start().await;
    let client = Postgres::connect(&url).await;
    let exists =
        "insert into document (space, name, version, bytes) values ('servers', 'a', 1, 'other')";
    client.batch_execute(exists).await.expect("a document");
    assert_eq!(count(&client, &swap(false)).await, 0);
    let remove = "delete from document";
    client.batch_execute(remove).await.expect("removed");
    assert_eq!(count(&client, &swap(true)).await, 0);
    let documents = "select count(*) from document";
    assert_eq!(count(&client, documents).await, 0);
}

/// What no list has yet may be on its way from one to another.
#[tokio::test]
async fn an_edit_that_does_not_find_where_its_task_is_fails_and_can_be_made_again() {
    let (_server, url, _broker) = start().await;
    let options = common::options(&url).retry_for(Duration::ZERO);
    let broker = PostgresBroker::connect(options).await.expect("a broker");
    common::enqueue(&broker, "task").await.expect("a task");
    let client = Postgres::connect(&url).await;
    let take = "create temporary table taken as select * from ready; delete from ready";
    client.batch_execute(take).await.expect("taken");
    let tasks = [common::task_ref("task")];
    let seen = Store::tasks(&broker, &tasks).await.expect("read").remove(0);
    let edits = [Edit {
        seen: seen.expect("a task"),
        change: Change::Delete,
    }];
    let error = broker.edit(&edits).await.expect_err("it is in no list");
    assert!(error.is_temporary(), "{error:?}");
    let place = "insert into ready select * from taken";
    client.batch_execute(place).await.expect("put back");
    let edited = broker.edit(&edits).await.expect("a call");
    assert_eq!(edited, [Edited::Done]);
}
