//! The role's default isolation is stricter than `read committed`: all calls work, and none reads what it has seen before
//! it waited.

use std::time::Duration;

use asynqueue_core::{
    broker::{CancelOutcome, Outcome, Settled, Store},
    producer::Producer,
    task::{Name, TaskState},
};
use asynqueue_test_servers::{Postgres, eventually};

use crate::{Count, common, counting, role, tables, waiting};

const LEVELS: [&str; 3] = ["read committed", "repeatable read", "serializable"];

fn setting(level: &str) -> String {
    format!("default_transaction_isolation = '{level}'")
}

/// An outcome waits for the lease while a cancellation is requested: it must see the request.
#[tokio::test]
async fn a_cancellation_that_an_outcome_has_waited_for_is_seen() {
    let server = Postgres::shared().await;
    for level in LEVELS {
        let (url, _) = role(&server, &[&setting(level)]).await;
        let broker = common::open(&url).await;
        common::enqueue(&broker, "task").await.expect("accepted");
        let leased = common::lease(&broker, 1).await.expect("leased").remove(0);
        let (program, db) = (Postgres::connect(&url).await, Postgres::connect(&url).await);
        let lock = "begin isolation level read committed; select from lease for update";
        program.batch_execute(lock).await.expect("locked");
        let settler = broker.clone();
        let settling = tokio::spawn(async move {
            let retry = Outcome::Retry {
                delay: Duration::ZERO,
            };
            common::settle(&settler, &leased, retry).await
        });
        waiting(&db, "transactionid", 1).await;
        let request = "select request_cancel((select turn from task), 'no longer needed'); commit";
        program.batch_execute(request).await.expect("requested");
        let settled = settling.await.expect("no panic").expect("an outcome");
        assert_eq!(settled, Settled::Cancelled, "{level}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_work_while_others_enqueue_and_cancel() {
    const TASKS: u64 = 300;
    let server = Postgres::shared().await;
    for level in LEVELS {
        let (url, schema) = role(&server, &[&setting(level)]).await;
        let broker = common::open(&url).await;
        let (one, _) = counting(broker.clone(), Duration::from_secs(10)).await;
        let (other, _) = counting(common::open(&url).await, Duration::from_secs(10)).await;
        let mut producing = Vec::new();
        for part in 0..3 {
            let producer = Producer::new(broker.clone());
            producing.push(tokio::spawn(async move {
                let mut cancelled = 0;
                for n in 0..TASKS / 3 {
                    let enqueue = producer
                        .enqueue(Count(n))
                        .delay(Duration::from_millis(n % 3));
                    let handle = enqueue.id(format!("{part}-{n}")).await.expect("accepted");
                    if n % 5 == 0 {
                        let task = [handle.task_ref().clone()];
                        let broker = producer.broker();
                        let outcomes = broker.cancel(&task, "no longer needed").await;
                        cancelled +=
                            u64::from(outcomes.expect("a call") == [CancelOutcome::Cancelled]);
                    }
                }
                cancelled
            }));
        }
        let mut cancelled = 0;
        for one in producing {
            cancelled += one.await.expect("no panic");
        }
        let queues = [Name::from("default")];
        eventually("all tasks have ended", async || {
            let stats = broker.stats(&queues).await.expect("figures").remove(0);
            let ended = stats.count(TaskState::Completed) + stats.count(TaskState::Archived);
            ended == TASKS
        })
        .await;
        let stats = broker.stats(&queues).await.expect("figures").remove(0);
        assert!(stats.count(TaskState::Archived) >= cancelled, "{level}");
        one.shutdown().await.expect("ended in order");
        other.shutdown().await.expect("ended in order");
        let problems = tables::problems_in(&server.client().await, &schema).await;
        assert_eq!(problems.expect("a check"), [""; 0], "{level}");
        let deleted = Store::delete_queue(&broker, &queues[0], true).await;
        assert!(deleted.expect("a result"));
    }
}
