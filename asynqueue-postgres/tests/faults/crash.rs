//! The server is killed while a transaction is open: it counts as one that was never committed, although its number is
//! given again.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{Change, Edit, Edited, Store},
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::Server,
};
use asynqueue_macros::Task;
use asynqueue_postgres::{CompleteIn, PostgresBroker};
use asynqueue_test_servers::{Postgres, eventually};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};

use crate::{common, tables};

/// Makes each commit that has changed a count wait for this lock.
const SLOW: &str = "create function public.wait() returns trigger language plpgsql as $$ \
     begin perform pg_advisory_xact_lock(77); return null; end $$; \
     create constraint trigger slow after insert on asynqueue.tally deferrable initially deferred \
     for each row execute function public.wait(); select pg_advisory_lock(77)";

/// Uses numbers of transactions that the crash has lost, and commits.
async fn use_numbers(postgres: &Postgres) {
    let db = postgres.client().await;
    for _ in 0..100 {
        let number = db.batch_execute("select pg_current_xact_id()").await;
        number.expect("committed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_whose_commit_was_cut_by_a_crash_is_made_after_it() {
    let mut postgres = Postgres::fast().await;
    let options = common::options(&postgres.url()).retry_for(common::LIMIT);
    let broker = PostgresBroker::connect(options).await.expect("a broker");
    common::enqueue(&broker, "task").await.expect("accepted");
    let tasks = [common::task_ref("task")];
    let seen = Store::tasks(&broker, &tasks).await.expect("read").remove(0);
    let edits = [Edit {
        seen: seen.expect("a task"),
        change: Change::Delete,
    }];
    let program = postgres.client().await;
    program.batch_execute(SLOW).await.expect("slow");
    let editor = broker.clone();
    let editing = tokio::spawn(async move { editor.edit(&edits).await });
    eventually("its commit waits", async || {
        let sql = "select count(*) from pg_stat_activity where query ilike 'commit' and wait_event = 'advisory'";
        let row = program.query_one(sql, &[]).await.expect("a row");
        row.get::<_, i64>(0) == 1
    })
    .await;
    postgres.kill();
    postgres.restart().await;
    use_numbers(&postgres).await;
    let edited = editing.await.expect("no panic").expect("a result");
    assert_eq!(edited, [Edited::Done]);
    let found = Store::tasks(&broker, &tasks).await.expect("read");
    assert_eq!(found, [None], "it was deleted");
    let problems = tables::problems(&postgres.client().await).await;
    assert_eq!(problems.expect("a check"), [""; 0]);
}

/// Its output is the attempt that has completed it.
#[derive(Clone, Serialize, Deserialize, Task)]
#[task(event = "attempt", crate = asynqueue_core, output = u32, retention = "1h", backoff = fixed("1ms"))]
struct Attempt;

/// The first attempt has completed the task in a transaction, and returns `Ok` after the crash.
#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_whose_transaction_was_lost_in_a_crash_is_not_recorded_and_reaches_no_waiter() {
    let mut postgres = Postgres::fast().await;
    let broker = common::open(&postgres.url()).await;
    let (completed, mut completions) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let (opened, url) = (Arc::clone(&gate), postgres.url());
    let attempt = move |_: Payload<Attempt>, ctx: Context| {
        let (completed, gate, url) = (completed.clone(), Arc::clone(&gate), url.clone());
        async move {
            let mut db = Postgres::connect(&url).await;
            let tx = db.transaction().await.map_err(TaskError::retry)?;
            let attempt = ctx.attempt();
            ctx.complete_in(&tx, &attempt)
                .await
                .map_err(TaskError::retry)?;
            match attempt {
                1 => {
                    completed.send(()).expect("a test");
                    gate.acquire().await.expect("open").forget();
                }
                _ => tx.commit().await.map_err(TaskError::retry)?,
            }
            Ok::<_, TaskError>(attempt)
        }
    };
    let server = Server::builder(broker.clone())
        .queue("default", 1)
        .lease(Duration::from_secs(30))
        .process(attempt);
    let server = server.start().await.expect("a server");
    // Not before a caller waits, so that the end is announced.
    let producer = Producer::new(broker.clone());
    let enqueue = producer.enqueue(Attempt).delay(Duration::from_millis(1));
    let handle = enqueue.await.expect("enqueued");
    let waiter = tokio::spawn(async move { handle.result().await });
    completions.recv().await.expect("it is completed");
    postgres.kill();
    postgres.restart().await;
    use_numbers(&postgres).await;
    opened.add_permits(1);
    let output = waiter.await.expect("no panic").expect("completed");
    assert_eq!(output, 2);
    server.shutdown().await.expect("ended in order");
    let stats = Store::stats(&broker, &["default".into()]).await;
    let stats = stats.expect("figures").remove(0);
    assert_eq!((stats.succeeded, stats.failed), (1, 1));
}
