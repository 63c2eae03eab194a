//! What is relayed, and in which order: commits, rollbacks, and transactions that commit late.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::Inspect,
    outbox::{Done, Outbox},
    task::{Name, TaskState},
};
use asynqueue_test_servers::{Postgres, eventually};

use crate::{Shop, all, assert_accepted, open, take};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_relayed_if_and_only_if_its_transaction_is_committed() {
    let shop = Shop::open().await;
    let relay = shop.relay();
    let mut db = shop.db().await;
    for (cents, commits) in [(1, true), (2, false), (3, true)] {
        let tx = db.transaction().await.expect("begun");
        let insert = "insert into account (cents) values ($1)";
        tx.execute(insert, &[&cents]).await.expect("inserted");
        let task = shop.outbox.enqueue_in(&tx, shop.credit(cents)).await;
        task.expect("written");
        match commits {
            true => tx.commit().await.expect("committed"),
            false => tx.rollback().await.expect("rolled back"),
        }
    }
    shop.drained().await;
    assert_accepted(&shop, [1, 3]).await;
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_savepoint_has_rolled_back_is_not_relayed() {
    let shop = Shop::open().await;
    let mut db = shop.db().await;
    let mut tx = db.transaction().await.expect("begun");
    let written = shop.outbox.enqueue_in(&tx, shop.credit(1)).await;
    written.expect("written");
    for (cents, commits) in [(2, false), (3, true)] {
        let savepoint = tx.savepoint("part").await.expect("set");
        let written = shop.outbox.enqueue_in(&savepoint, shop.credit(cents)).await;
        written.expect("written");
        match commits {
            true => savepoint.commit().await.expect("released"),
            false => savepoint.rollback().await.expect("rolled back"),
        }
    }
    tx.commit().await.expect("committed");
    shop.relay_all().await;
    assert_accepted(&shop, [1, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_of_a_transaction_are_enqueued_in_their_order() {
    let shop = Shop::open().await;
    let mut db = shop.db().await;
    let tx = db.transaction().await.expect("begun");
    let tasks = (0..2_300).map(|cents| shop.credit(cents));
    let written = shop.outbox.enqueue_many_in(&tx, tasks).await;
    assert_eq!(written.expect("written").len(), 2_300);
    tx.commit().await.expect("committed");
    shop.relay_all().await;
    assert_accepted(&shop, 0..2_300).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_task_is_no_statement() {
    let shop = Shop::open().await;
    let mut db = shop.db().await;
    let tx = db.transaction().await.expect("begun");
    let written = shop
        .outbox
        .enqueue_many_in(&tx, [shop.credit(1)].into_iter().skip(1));
    assert_eq!(written.await.expect("written").len(), 0);
    let number = "select pg_current_xact_id_if_assigned() is null";
    let row = tx.query_one(number, &[]).await.expect("a row");
    assert!(row.get::<_, bool>(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_counts_from_the_transaction() {
    let shop = Shop::open().await;
    let mut db = shop.db().await;
    let tx = db.transaction().await.expect("begun");
    let hour = Duration::from_secs(3_600);
    let task = shop
        .producer
        .enqueue(crate::Credit { cents: 1 })
        .delay(hour);
    let task = task.prepare().expect("prepared");
    let due = task.task().envelope.enqueued_at + hour;
    let handle = shop.outbox.enqueue_in(&tx, task).await.expect("written");
    tx.commit().await.expect("committed");
    shop.relay_all().await;
    let found = shop.broker.tasks(&[handle.task_ref().clone()]).await;
    let found = found.expect("read");
    let found = found[0].as_ref().expect("a task");
    assert_eq!((found.state, found.at), (TaskState::Scheduled, Some(due)));
}

/// Its entry has the lower place, which another database would have numbered already.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_commits_after_a_later_one_is_relayed_behind_it() {
    let shop = Shop::open().await;
    let (mut first, mut second) = (shop.db().await, shop.db().await);
    let late = first.transaction().await.expect("begun");
    for cents in [1, 2] {
        let written = shop.outbox.enqueue_in(&late, shop.credit(cents)).await;
        written.expect("written");
    }
    let early = second.transaction().await.expect("begun");
    let written = shop.outbox.enqueue_in(&early, shop.credit(3)).await;
    written.expect("written");
    early.commit().await.expect("committed");
    let relay = shop.relay();
    eventually("the committed one is accepted", async || {
        shop.pending().await == 1
    })
    .await;
    eventually("its entry is removed", async || {
        shop.outbox.size().await.expect("a size").waiting == 0
    })
    .await;
    late.commit().await.expect("committed");
    eventually("the late ones are accepted", async || {
        shop.pending().await == 3
    })
    .await;
    relay.shutdown().await;
    assert_accepted(&shop, [3, 1, 2]).await;
    assert_eq!(shop.outbox.failed(0, 10).await.expect("read"), []);
}

/// Entries that were taken keep their numbers.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_commit_gets_a_number_behind_those_that_were_taken() {
    let shop = Shop::open().await;
    let (mut first, mut second) = (shop.db().await, shop.db().await);
    let late = first.transaction().await.expect("begun");
    let written = shop.outbox.enqueue_in(&late, shop.credit(1)).await;
    written.expect("written");
    let early = second.transaction().await.expect("begun");
    let written = shop.outbox.enqueue_in(&early, shop.credit(2)).await;
    written.expect("written");
    early.commit().await.expect("committed");
    let relay = Name::from("relay");
    let before = take(&shop.outbox, &relay).await;
    assert_eq!(before.len(), 1);
    late.commit().await.expect("committed");
    let after = take(&shop.outbox, &relay).await;
    assert_eq!(after.len(), 2);
    assert_eq!(
        (after[0].place, after[0].number),
        (before[0].place, before[0].number)
    );
    assert!(after[1].place < after[0].place && after[1].number > after[0].number);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_another_process_is_noticed() {
    let shop = Shop::open().await;
    let writer = open(&shop.url).await;
    take(&shop.outbox, &"relay".into()).await;
    let noticed = shop.outbox.changed();
    tokio::pin!(noticed);
    let mut db = shop.db().await;
    let tx = db.transaction().await.expect("begun");
    let written = writer.enqueue_in(&tx, shop.credit(1)).await;
    written.expect("written");
    let early = tokio::time::timeout(Duration::from_millis(200), &mut noticed).await;
    assert!(early.is_err(), "nothing was committed");
    tx.commit().await.expect("committed");
    let noticed = tokio::time::timeout(Duration::from_secs(30), noticed).await;
    noticed.expect("it is noticed");
    assert_eq!(take(&shop.outbox, &"relay".into()).await.len(), 1);
}

/// PostgreSQL lets the commits of transactions that notify wait for each other.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_the_application_sends_no_notification() {
    let server = Postgres::with(&["max_prepared_transactions=1", "fsync=off"]).await;
    let url = server.url();
    let shop = Shop::at(Arc::new(server), url).await;
    let mut db = shop.db().await;
    let tx = db.transaction().await.expect("begun");
    let written = shop.outbox.enqueue_in(&tx, shop.credit(1)).await;
    written.expect("written");
    // This is not possible after a notification.
    let prepared = tx.batch_execute("prepare transaction 'shop'").await;
    prepared.expect("prepared");
    drop(tx);
    let rollback = "rollback prepared 'shop'";
    db.batch_execute(rollback).await.expect("rolled back");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_with_a_zero_byte_in_its_reason_is_kept() {
    let shop = Shop::open().await;
    let mut db = shop.db().await;
    let tx = db.transaction().await.expect("begun");
    let written = shop.outbox.enqueue_in(&tx, shop.credit(1)).await;
    written.expect("written");
    tx.commit().await.expect("committed");
    let relay = Name::from("relay");
    let taken = take(&shop.outbox, &relay).await;
    let done = [Done::Fail(taken[0].place, "a\0b".into())];
    assert!(shop.outbox.finish(&relay, &done).await.expect("recorded"));
    let failed = shop.outbox.failed(0, 10).await.expect("read");
    assert_eq!(failed[0].reason, "ab");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_whose_tables_were_emptied_starts_anew() {
    let shop = Shop::open().await;
    let relay = shop.relay();
    let mut db = shop.db().await;
    for (cents, empties) in [(1, false), (2, true), (3, false)] {
        if empties {
            let empty = "truncate outbox; truncate outbox_meta";
            db.batch_execute(empty).await.expect("emptied");
        }
        let tx = db.transaction().await.expect("begun");
        let written = shop.outbox.enqueue_in(&tx, shop.credit(cents)).await;
        written.expect("written");
        tx.commit().await.expect("committed");
        shop.drained().await;
    }
    relay.shutdown().await;
    assert_accepted(&shop, 1..4).await;
    // A program that starts then finds them usable.
    db.batch_execute("truncate outbox_meta")
        .await
        .expect("emptied");
    let again = open(&shop.url).await;
    let taken = again.take(&all(&"relay".into())).await;
    taken.expect("taken");
}
