//! Another program has a transaction open on the file.

use std::time::{Duration, Instant};

use asynqueue_core::broker::{BrokerError, Store};
use asynqueue_sqlite::{SqliteBroker, SqliteOptions};
use futures_util::{StreamExt, stream::FuturesUnordered};

use crate::common::{self, Scratch};

#[tokio::test]
async fn a_call_waits_for_the_transaction_of_another_program() {
    let scratch = Scratch::new();
    let options = SqliteOptions::file(scratch.file()).busy_timeout(common::LIMIT);
    let broker = SqliteBroker::connect(options).await.expect("a broker");
    let program = common::program(scratch.file());
    program
        .execute_batch("begin immediate")
        .expect("a transaction");

    let mut call = std::pin::pin!(common::enqueue(&broker, "task"));
    let waited = tokio::time::timeout(Duration::from_millis(100), &mut call).await;
    assert!(waited.is_err(), "the file is locked");
    // Reading needs no lock.
    assert!(common::pending(&broker).await.expect("a number") == 0);
    program.execute_batch("commit").expect("a commit");
    call.await.expect("the task is accepted");
    assert_eq!(common::drain(&broker).await, ["task"]);
}

#[tokio::test]
async fn a_transaction_that_lasts_too_long_fails_all_calls_together() {
    let scratch = Scratch::new();
    let broker = common::open(scratch.file()).await;
    let program = common::program(scratch.file());
    program
        .execute_batch("begin immediate")
        .expect("a transaction");

    let names: Vec<_> = (0..50).map(|n| format!("task-{n}")).collect();
    let calls = names.iter().map(|name| common::enqueue(&broker, name));
    let mut calls: FuturesUnordered<_> = calls.collect();
    while let Some(result) = calls.next().await {
        // Others would succeed now, if each had its own time.
        if !program.is_autocommit() {
            program.execute_batch("rollback").expect("an end");
        }
        let error = result.expect_err("the file is locked");
        assert!(matches!(error, BrokerError::Unavailable(_)), "{error}");
        let name = scratch.file();
        assert_eq!(
            error.to_string(),
            format!(
                "the broker is unavailable: `{}` is locked by a transaction of another program for more than 300ms: end that transaction",
                name.display()
            )
        );
    }
    assert_eq!(
        common::drain(&broker).await,
        [""; 0],
        "no refused task was accepted"
    );
    common::work(&broker, "after").await;
}

#[tokio::test]
async fn a_program_that_reads_for_long_keeps_nobody_from_writing() {
    let scratch = Scratch::new();
    let patient = SqliteOptions::file(scratch.file()).busy_timeout(common::LIMIT);
    let idle = SqliteBroker::connect(patient).await.expect("a broker");
    common::enqueue(&idle, "first").await.expect("a task");
    let program = common::program(scratch.file());
    program.execute_batch("begin").expect("a transaction");
    let read = "select count(*) from asynqueue_task";
    let count = || program.query_row(read, [], |row| row.get::<_, i64>(0));
    assert_eq!(count(), Ok(1));

    common::enqueue(&idle, "second").await.expect("a task");
    // The idle one cuts the log off after a second, for which the reader is in its way. It must not wait for the reader,
    // because nobody else can write in the meantime.
    let busy = common::open(scratch.file()).await;
    let started = Instant::now();
    let mut tasks = 0;
    while started.elapsed() < Duration::from_secs(3) {
        tasks += 1;
        let task = format!("task-{tasks}");
        common::enqueue(&busy, &task)
            .await
            .expect("the file is not locked");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(count(), Ok(1), "it reads one moment");
}

#[tokio::test]
async fn a_file_that_another_program_keeps_for_itself_is_refused_with_the_reason() {
    let scratch = Scratch::new();
    common::open(scratch.file()).await.close().await;
    let program = common::program(scratch.file());
    program
        .execute_batch("pragma locking_mode = exclusive; create table own (id integer)")
        .expect("a table");
    let error = common::try_open(scratch.file()).await.expect_err("locked");
    assert_eq!(
        error.to_string(),
        format!(
            "`{}` is locked by another program for more than 300ms: end its transaction, or the program if it uses `locking_mode=exclusive`",
            scratch.file().display()
        )
    );
    drop(program);
    common::work(&common::open(scratch.file()).await, "task").await;
}
