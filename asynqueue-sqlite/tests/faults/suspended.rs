//! A process that is stopped while it has a lock.

use std::{fs::File, path::Path};

use asynqueue_core::broker::BrokerError;

use crate::common::{
    self, Scratch,
    child::{self, Child},
};

/// In another process: starts a transaction, or ends it.
pub(crate) fn hold_transactions(file: &Path) {
    let db = common::program(file);
    child::respond("ready");
    for request in child::requests() {
        db.execute_batch(&request).expect("a transaction");
        child::respond("done");
    }
}

/// In another process: has the turn, as a process that waits to write.
pub(crate) fn hold_the_turn(file: &Path) {
    let turn = file.with_file_name("tasks.db-live").join("turn");
    let turn = File::options().write(true).open(turn).expect("a file");
    turn.lock().expect("a lock");
    child::respond("ready");
    child::requests().for_each(drop);
}

#[tokio::test]
async fn a_process_that_stops_in_a_transaction_fails_calls_until_it_continues() {
    let scratch = Scratch::new();
    let broker = common::open(scratch.file()).await;
    let mut other = Child::start("hold", scratch.file());
    assert_eq!(other.call("begin immediate"), "done");
    other.signal("STOP");
    for task in ["one", "two"] {
        let call = tokio::time::timeout(common::LIMIT, common::enqueue(&broker, task));
        let error = call
            .await
            .expect("the call ends")
            .expect_err("it is locked");
        assert!(matches!(error, BrokerError::Unavailable(_)), "{error}");
    }
    assert_eq!(common::pending(&broker).await.expect("a number"), 0);
    other.signal("CONT");
    assert_eq!(other.call("commit"), "done");
    common::work(&broker, "after").await;
    other.end();
}

#[tokio::test]
async fn a_process_that_stops_with_the_turn_delays_others_and_blocks_none() {
    let scratch = Scratch::new();
    let broker = common::open(scratch.file()).await;
    let other = Child::start("turn", scratch.file());
    other.signal("STOP");
    let call = tokio::time::timeout(common::LIMIT, common::enqueue(&broker, "task"));
    call.await
        .expect("the call ends")
        .expect("the file is not locked");
    assert_eq!(common::drain(&broker).await, ["task"]);
    other.signal("CONT");
    other.end();
    common::work(&broker, "after").await;
}

#[tokio::test]
async fn a_process_that_is_killed_in_a_transaction_leaves_no_trace_of_it() {
    let scratch = Scratch::new();
    let broker = common::open(scratch.file()).await;
    common::enqueue(&broker, "kept").await.expect("a task");
    let mut other = Child::start("hold", scratch.file());
    let change = "begin immediate; delete from asynqueue_ready; delete from asynqueue_task";
    assert_eq!(other.call(change), "done");
    other.signal("KILL");
    common::eventually("the lock ends", async || {
        common::enqueue(&broker, "next").await.is_ok()
    })
    .await;
    assert_eq!(common::drain(&broker).await, ["kept", "next"]);
}
