//! Announcements after one that gets no response: only their own limit delays them.

use std::time::Duration;

use asynqueue_core::{
    broker::{Signal, Signals, Store},
    producer::Producer,
    task::Name,
};
use asynqueue_postgres::PostgresBroker;
use asynqueue_test_servers::{Fault, Postgres, Proxy, eventually};
use futures_util::StreamExt;

use crate::{Count, common};

/// How long a client waits for a response.
const LIMIT: Duration = Duration::from_millis(500);

async fn impatient(url: &str) -> PostgresBroker {
    let options = common::options(url).response_timeout(LIMIT).pool_size(1);
    PostgresBroker::connect(options).await.expect("a broker")
}

/// What another broker hears of a queue.
async fn signals(url: &str, queue: &str) -> (PostgresBroker, Signals) {
    let other = common::open(url).await;
    let signals = Store::signals(&other, &[Name::from(queue)]).await;
    (other, signals.expect("signals"))
}

async fn hears_of_pending((_other, mut signals): (PostgresBroker, Signals), queue: &str) {
    let signal = tokio::time::timeout(common::LIMIT, signals.next()).await;
    let signal = signal.expect("announced").expect("open");
    assert_eq!(signal, Signal::Pending(queue.into()));
}

/// The response to a look at the open transaction never arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_announced_though_the_connection_that_looks_at_it_is_dead() {
    let server = Postgres::fast().await;
    let proxy = Proxy::start(server.port()).await;
    let url = server.url();
    let through = url.replace(&server.port().to_string(), &proxy.port().to_string());
    let broker = impatient(&through).await;
    let heard = signals(&url, "default").await;
    let (mut db, look) = (server.client().await, server.client().await);
    let tx = db.transaction().await.expect("begun");
    let task = Producer::new(broker.clone()).prepare(Count(0));
    let task = task.expect("prepared");
    broker.enqueue_in(&tx, task).await.expect("accepted");
    proxy.set(Fault::SwallowReplies);
    let now = look.query_one("select clock_timestamp()::text", &[]).await;
    let since: String = now.expect("a time").get(0);
    let sql = "select count(*) from pg_stat_activity where query like '%pg_xact_status%' and pid <> pg_backend_pid() \
         and query_start > $1::text::timestamptz";
    eventually("it looks", async || {
        let row = look.query_one(sql, &[&since]).await.expect("a row");
        row.get::<_, i64>(0) > 0
    })
    .await;
    proxy.set(Fault::None);
    tx.commit().await.expect("committed");
    hears_of_pending(heard, "default").await;
}

/// The first announcement waits in the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_announced_though_an_earlier_announcement_waits_without_end() {
    let server = Postgres::fast().await;
    let url = server.url();
    let broker = impatient(&url).await;
    let producer = Producer::new(broker.clone());
    common::enqueue(&broker, "one").await.expect("accepted");
    let program = server.client().await;
    let stall = "create or replace function asynqueue.moved_on(names text[], heads text[]) \
         returns table (name text, is_taken boolean) language plpgsql as $$ \
         begin perform pg_advisory_xact_lock(77); end $$; select pg_advisory_lock(77)";
    program.batch_execute(stall).await.expect("stalled");
    common::enqueue(&broker, "two").await.expect("accepted");
    let sql = "select count(*) from pg_stat_activity where wait_event = 'advisory'";
    let waiting = async || {
        let row = program.query_one(sql, &[]).await.expect("a row");
        row.get::<_, i64>(0)
    };
    eventually("it waits", async || waiting().await > 0).await;
    let heard = signals(&url, "default").await;
    // Its call may wait for the only connection.
    producer.enqueue(Count(0)).await.expect("accepted");
    hears_of_pending(heard, "default").await;
    eventually("it is cancelled", async || waiting().await == 0).await;
}

/// As after a crash that has lost the newest transactions: their numbers are those of later ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_with_a_number_in_the_future_keeps_no_other_from_being_announced() {
    let server = Postgres::shared().await;
    let url = server.new_schema();
    let broker = common::open(&url).await;
    let producer = Producer::new(broker.clone());
    let heard = signals(&url, "default").await;
    let (_, schema) = url.split_once("schema=").expect("a schema");
    let mut db = Postgres::connect(&url).await;
    let later = format!(
        "create function pg_current_xact_id() returns xid8 language sql as $$ select '4000000000'::xid8 $$; \
         set search_path to \"{schema}\", pg_catalog"
    );
    db.batch_execute(&later).await.expect("a function");
    let tx = db.transaction().await.expect("begun");
    let lost = producer.enqueue(Count(0)).queue("lost");
    let lost = lost.prepare().expect("prepared");
    broker.enqueue_in(&tx, lost).await.expect("accepted");
    tx.rollback().await.expect("lost");
    let mut db = Postgres::connect(&url).await;
    let tx = db.transaction().await.expect("begun");
    let task = producer.prepare(Count(1)).expect("prepared");
    broker.enqueue_in(&tx, task).await.expect("accepted");
    tx.commit().await.expect("committed");
    hears_of_pending(heard, "default").await;
}
