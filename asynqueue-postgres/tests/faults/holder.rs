//! A unique lock that is released while another task looks for its holder.

use asynqueue_core::{
    broker::{Conflict, Outcome, Settled, Store},
    task::{TaskState, UniqueKey, UniqueLock, UniqueUntil},
};
use asynqueue_postgres::PostgresBroker;
use asynqueue_test_servers::Postgres;
use tokio_postgres::Client;

use crate::{common, waiting};

/// Blocks calls that have found a lock held, as long as another connection has this advisory lock.
async fn pause_after_look(db: &Client, schema: &str) {
    let read = "select pg_get_functiondef('take_lock'::regproc)";
    let original: String = db.query_one(read, &[]).await.expect("a function").get(0);
    let copy = original.replace("take_lock", "take_lock_now");
    let paused = format!(
        "create or replace function take_lock(
            of_queue integer, wanted text, new_holder bytea, ends bigint, t bigint)
        returns bytea language plpgsql volatile as $$
        declare
            held_by bytea := {schema}.take_lock_now(of_queue, wanted, new_holder, ends, t);
        begin
            if held_by is not null then
                perform pg_advisory_xact_lock_shared(4711);
            end if;
            return held_by;
        end $$"
    );
    for function in [copy, paused] {
        db.batch_execute(&function).await.expect("a function");
    }
}

async fn enqueue(broker: &PostgresBroker, task: &str) -> Result<(), Conflict> {
    let mut task = common::task_of(task);
    let until = UniqueUntil::Success;
    let lock = UniqueLock::new(UniqueKey::new("key"), until, common::LIMIT);
    task.envelope.unique = Some(Box::new(lock));
    let results = Store::enqueue(broker, vec![task]).await.expect("a call");
    results.into_iter().next().expect("a result")
}

#[tokio::test]
async fn a_task_is_not_refused_for_a_holder_that_ended_before_the_refusal() {
    let server = Postgres::shared().await;
    let url = server.new_schema();
    let schema = url.split_once("schema=").expect("a schema").1;
    let (broker, db) = (common::open(&url).await, Postgres::connect(&url).await);
    enqueue(&broker, "first").await.expect("accepted");
    let leased = common::lease(&broker, 1).await.expect("leased");
    pause_after_look(&db, schema).await;

    for outcome in [None, Some(Outcome::Archive)] {
        let hold = db.batch_execute("select pg_advisory_lock(4711)").await;
        hold.expect("a lock");
        let ends = outcome.is_some();
        let enqueued = tokio::spawn({
            let broker = broker.clone();
            async move { enqueue(&broker, "second").await }
        });
        waiting(&db, "advisory", 1).await;
        if let Some(outcome) = outcome {
            let settled = common::settle(&broker, &leased[0], outcome).await;
            assert_eq!(settled.expect("an outcome"), Settled::Recorded);
        }
        let release = db.batch_execute("select pg_advisory_unlock(4711)").await;
        release.expect("no lock");
        let enqueued = enqueued.await.expect("no panic");
        if ends {
            assert_eq!(enqueued, Ok(()), "the lock is free");
        } else {
            let state = match enqueued {
                Err(Conflict::Unique { state, .. }) => state,
                other => panic!("{other:?}"),
            };
            assert_eq!(state, TaskState::Active, "it has the lock");
        }
    }
}
