//! Tasks in transactions of the application.

use std::time::Duration;

use asynqueue_core::{
    broker::{Broker, Conflict, Control, Inspect, Signal},
    process::Payload,
    producer::EnqueueError,
    server::Server,
    task::{Aggregate, Name, TaskState},
};
use asynqueue_test_servers::Postgres;
use futures_util::{FutureExt, StreamExt};

use crate::{Credit, Once, Shop, add, common};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_exists_if_and_only_if_its_transaction_is_committed() {
    let shop = Shop::open().await;
    let mut db = shop.db().await;
    for (cents, commits) in [(1, true), (2, false), (3, true)] {
        let tx = db.transaction().await.expect("begun");
        add(&tx, cents).await;
        let task = shop.producer.prepare(Credit { cents }).expect("prepared");
        let handle = shop.broker.enqueue_in(&tx, task).await.expect("enqueued");
        let task = [handle.task_ref().clone()];
        let before = shop.broker.tasks(&task).await.expect("read");
        assert_eq!(before, [None], "it is visible before the commit");
        match commits {
            true => tx.commit().await.expect("committed"),
            false => tx.rollback().await.expect("rolled back"),
        }
        let after = shop.broker.tasks(&task).await.expect("read");
        assert_eq!(after[0].is_some(), commits);
    }
    assert_eq!((shop.pending().await, shop.credited().await), (2, (2, 4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_are_committed_or_rolled_back_together() {
    let shop = Shop::open().await;
    let mut db = shop.db().await;
    for commits in [false, true] {
        let tx = db.transaction().await.expect("begun");
        // More than one call takes.
        let tasks =
            (0..2_500).map(|cents| shop.producer.prepare(Credit { cents }).expect("prepared"));
        let results = shop.broker.enqueue_many_in(&tx, tasks).await;
        let results = results.expect("enqueued");
        assert!(results.len() == 2_500 && results.iter().all(Result::is_ok));
        assert_eq!(shop.pending().await, 0, "none is visible before the commit");
        match commits {
            true => tx.commit().await.expect("committed"),
            false => tx.rollback().await.expect("rolled back"),
        }
        assert_eq!(shop.pending().await, if commits { 2_500 } else { 0 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_hears_of_a_task_after_the_commit_and_of_none_that_is_rolled_back() {
    let shop = Shop::open().await;
    let queues = [Name::from("default")];
    let mut signals = shop.broker.signals(&queues).await.expect("signals");
    // The task of another broker is announced by a notification.
    let other = common::open(&shop.url).await;
    let mut elsewhere = other.signals(&queues).await.expect("signals");
    let mut db = shop.db().await;
    for commits in [false, true] {
        let tx = db.transaction().await.expect("begun");
        let task = shop
            .producer
            .prepare(Credit { cents: 1 })
            .expect("prepared");
        shop.broker.enqueue_in(&tx, task).await.expect("enqueued");
        assert_eq!(signals.next().now_or_never(), None, "before the commit");
        match commits {
            true => tx.commit().await.expect("committed"),
            false => tx.rollback().await.expect("rolled back"),
        }
    }
    let expected = Some(Signal::Pending(queues[0].clone()));
    assert_eq!(signals.next().await, expected);
    assert_eq!(elsewhere.next().await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_server_starts_a_task_after_its_commit_without_polling() {
    let shop = Shop::open().await;
    let double = async |task: Payload<Credit>| Ok::<_, std::convert::Infallible>(task.cents * 2);
    let mut servers = Vec::new();
    // One in this process's broker, and one in another.
    for broker in [shop.broker.clone(), common::open(&shop.url).await] {
        let server = Server::builder(broker)
            .queue("default", 1)
            .poll_interval(Duration::from_secs(3_600))
            .process(double);
        servers.push(server.start().await.expect("a server"));
    }
    let mut db = shop.db().await;
    for cents in 0..20 {
        let tx = db.transaction().await.expect("begun");
        let task = shop.producer.prepare(Credit { cents }).expect("prepared");
        let handle = shop.broker.enqueue_in(&tx, task).await.expect("enqueued");
        tx.commit().await.expect("committed");
        let result = tokio::time::timeout(common::LIMIT, handle.result()).await;
        assert_eq!(result.expect("it runs").expect("completed"), cents * 2);
    }
    for server in servers {
        server.shutdown().await.expect("ended in order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_task_leaves_the_transaction_as_it_was() {
    let shop = Shop::open().await;
    let mut db = shop.db().await;
    let tx = db.transaction().await.expect("begun");
    add(&tx, 1).await;
    let once = |key| shop.producer.prepare(Once { key }).expect("prepared");
    let first = shop.broker.enqueue_in(&tx, once(7)).await;
    first.expect("accepted");
    let refused = shop.broker.enqueue_in(&tx, once(7)).await;
    let refused = refused.expect_err("its lock is held");
    assert!(
        matches!(refused, EnqueueError::Conflict(Conflict::Unique { .. })),
        "{refused}"
    );
    let results = shop.broker.enqueue_many_in(&tx, [8, 7, 9].map(once)).await;
    let results = results.expect("enqueued");
    let accepted: Vec<_> = results.iter().map(Result::is_ok).collect();
    assert_eq!(accepted, [true, false, true]);
    let same_id = |cents| {
        let task = shop.producer.enqueue(Credit { cents }).id("one");
        task.prepare().expect("prepared")
    };
    let results = shop
        .broker
        .enqueue_many_in(&tx, [same_id(1), same_id(2)])
        .await;
    let results = results.expect("enqueued");
    assert!(results[0].is_ok());
    assert!(
        matches!(
            &results[1],
            Err(EnqueueError::Conflict(Conflict::Id { .. }))
        ),
        "{:?}",
        results[1].as_ref().err()
    );
    let refused = shop.broker.enqueue_in(&tx, same_id(3)).await;
    let refused = refused.expect_err("its id is taken");
    assert!(
        matches!(refused, EnqueueError::Conflict(Conflict::Id { .. })),
        "{refused}"
    );
    tx.commit().await.expect("committed");
    assert_eq!((shop.pending().await, shop.credited().await.0), (4, 1));
}

/// The transaction does not see the task, which has a generated id and was accepted after its snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_a_stricter_transaction_does_not_see_is_not_accepted_twice() {
    let shop = Shop::open().await;
    for level in ["repeatable read", "serializable"] {
        let mut db = shop.db().await;
        let prepared = shop.producer.prepare(Credit { cents: 1 });
        let prepared = prepared.expect("prepared");
        let task = prepared.task().clone();
        let is = format!("set transaction isolation level {level}; select from task");
        let tx = db.transaction().await.expect("begun");
        tx.batch_execute(&is).await.expect("a snapshot");
        let accepted = asynqueue_core::broker::Store::enqueue(&shop.broker, vec![task]).await;
        assert_eq!(accepted.expect("sent"), [Ok(())]);
        let error = shop.broker.enqueue_in(&tx, prepared).await;
        let error = error.expect_err("it exists").to_string();
        assert!(error.contains("could not serialize access"), "{error}");
        tx.rollback().await.expect("rolled back");
        // Nor does a commit after it.
        let rows = "select count(*) from (select from task group by id having count(*) > 1) twice";
        let twice = db.query_one(rows, &[]).await.expect("a row");
        assert_eq!(twice.get::<_, i64>(0), 0, "{level}");
    }
    assert_eq!((shop.rows("task").await, shop.pending().await), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_lock_is_free_again_after_a_rollback_and_held_after_a_commit() {
    let shop = Shop::open().await;
    let mut db = shop.db().await;
    for commits in [false, true] {
        let tx = db.transaction().await.expect("begun");
        let task = shop.producer.prepare(Once { key: 1 }).expect("prepared");
        shop.broker.enqueue_in(&tx, task).await.expect("accepted");
        // It waits for the end of the transaction.
        let mut waiting = std::pin::pin!(shop.producer.enqueue(Once { key: 1 }).into_future());
        assert!((&mut waiting).now_or_never().is_none());
        match commits {
            true => tx.commit().await.expect("committed"),
            false => tx.rollback().await.expect("rolled back"),
        }
        let enqueued = waiting.await;
        assert_eq!(enqueued.is_err(), commits);
        if let Ok(handle) = enqueued {
            let deleted = shop.broker.delete(&[handle.task_ref().clone()]).await;
            assert_eq!(deleted.expect("a call"), [true]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scheduled_tasks_and_members_of_groups_are_committed_with_their_times() {
    let shop = Shop::open().await;
    let mut db = shop.db().await;
    let credit = |cents| shop.producer.enqueue(Credit { cents });
    for commits in [false, true] {
        let tx = db.transaction().await.expect("begun");
        let limits = Aggregate::default();
        let calls = [
            credit(1).delay(Duration::from_secs(60)),
            credit(2).aggregate(limits),
            credit(3).aggregate(limits),
        ];
        let tasks = calls.map(|call| call.prepare().expect("prepared"));
        let results = shop.broker.enqueue_many_in(&tx, tasks).await;
        assert!(results.expect("enqueued").iter().all(Result::is_ok));
        match commits {
            true => tx.commit().await.expect("committed"),
            false => tx.rollback().await.expect("rolled back"),
        }
    }
    assert_eq!(shop.count(TaskState::Scheduled).await, 1);
    assert_eq!(shop.count(TaskState::Aggregating).await, 2);
    let due = shop.broker.forward(&["default".into()], 10).await;
    let due = due.expect("a call").remove(0).expect("a queue");
    assert!(due.next_due.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_another_database_is_refused() {
    let shop = Shop::open().await;
    let (_, schema) = shop.url.split_once("?schema=").expect("a schema");
    let other = shop.server.database("other_enqueue").await;
    let same_schema = format!("{other}?schema={schema}");
    for has_tables in [false, true] {
        if has_tables {
            common::open(&same_schema).await;
        }
        let mut db = Postgres::connect(&other).await;
        let tx = db.transaction().await.expect("begun");
        let prepare = |cents| shop.producer.prepare(Credit { cents }).expect("prepared");
        let error = shop.broker.enqueue_in(&tx, prepare(1)).await;
        assert_eq!(
            error.expect_err("another database").to_string(),
            format!(
                "the broker does not support this: a transaction on another database: the tasks are in schema `{schema}` of `postgres` at 127.0.0.1:{}; roll \
                 back, and use a connection to that database",
                shop.server.port()
            )
        );
        // Nothing was written.
        tx.commit().await.expect("committed");
    }
    let other = common::open(&same_schema).await;
    let stats = other.stats(&["default".into()]).await.expect("figures");
    assert_eq!(stats[0].count(TaskState::Pending), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_transaction_is_not_mistaken_for_another_database() {
    let shop = Shop::open().await;
    let mut db = shop.db().await;
    let tx = db.transaction().await.expect("begun");
    tx.batch_execute("select 1 / 0")
        .await
        .expect_err("no number");
    let task = shop
        .producer
        .prepare(Credit { cents: 1 })
        .expect("prepared");
    let error = shop.broker.enqueue_in(&tx, task).await;
    assert_eq!(
        error.expect_err("it has failed").to_string(),
        "unexpected response from the broker: current transaction is aborted, commands ignored until end of transaction block: roll back the transaction"
    );
}
