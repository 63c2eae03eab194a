//! Damaged files.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
};

use asynqueue_core::{
    broker::{BrokerError, Keep, Outcome, Settled, Store},
    codec::CodecName,
    task::{Name, TaskState, Timestamp},
};

use crate::common::{self, Scratch};

const DAMAGED: &str = "is damaged or was cut short: stop all programs that use it, and restore a backup, or save what can be read with `sqlite3 FILE .recover`";

/// A file with 2,000 tasks in queue `q`, all of them moved into it.
async fn filled() -> Scratch {
    let scratch = Scratch::new();
    let broker = common::open(scratch.file()).await;
    for n in 0..2_000 {
        let tasks = common::task_in("q", &format!("task-{n:04}"), 500);
        Store::enqueue(&broker, vec![tasks]).await.expect("a task")[0]
            .as_ref()
            .expect("it is accepted");
    }
    broker.close().await;
    scratch
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let scratch = Scratch::new();
    fs::write(
        scratch.file(),
        "These are my notes, and no database.".repeat(100),
    )
    .expect("a file");
    let before = fs::read(scratch.file()).expect("a file");
    let error = common::try_open(scratch.file())
        .await
        .expect_err("no database");
    let name = scratch.file();
    assert_eq!(
        error.to_string(),
        format!(
            "`{}` is not a SQLite database, or it is encrypted: name another file",
            name.display()
        )
    );
    assert_eq!(fs::read(scratch.file()).expect("a file"), before);
}

#[tokio::test]
async fn an_empty_file_is_a_new_database() {
    let scratch = Scratch::new();
    File::create(scratch.file()).expect("a file");
    common::work(&common::open(scratch.file()).await, "task").await;
}

#[tokio::test]
async fn a_file_that_was_cut_in_half_is_refused() {
    let scratch = filled().await;
    let length = fs::metadata(scratch.file()).expect("a file").len();
    let file = File::options().write(true).open(scratch.file());
    file.expect("a file").set_len(length / 2).expect("cut");
    let error = common::try_open(scratch.file()).await.expect_err("damaged");
    let name = scratch.file();
    assert_eq!(error.to_string(), format!("`{}` {DAMAGED}", name.display()));
}

#[tokio::test]
async fn a_file_that_has_only_a_part_of_its_header_is_refused() {
    let scratch = filled().await;
    let file = File::options().write(true).open(scratch.file());
    file.expect("a file").set_len(20).expect("cut");
    let error = common::try_open(scratch.file()).await.expect_err("damaged");
    assert_eq!(
        error.to_string(),
        format!(
            "`{}` was cut short to 20 bytes, or is not a SQLite database: restore a backup, or name another file",
            scratch.file().display()
        )
    );
}

/// Overwrites each page that is a leaf of a table.
fn overwrite_leaves(path: &Path) {
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("a file");
    let pages = file.metadata().expect("a file").len() / 4_096;
    let mut overwritten = 0;
    for page in 2..pages {
        let mut kind = [0];
        file.read_exact_at(&mut kind, page * 4_096).expect("a page");
        // 2 and 10 are pages of tables without row ids.
        if kind == [10] {
            file.write_all_at(&[0xee; 4_096], page * 4_096)
                .expect("a page");
            overwritten += 1;
        }
    }
    assert!(overwritten > 100, "{overwritten}");
}

#[tokio::test]
async fn damaged_pages_fail_calls_with_the_remedy() {
    let scratch = filled().await;
    overwrite_leaves(&scratch.file());
    let broker = common::open(scratch.file()).await;
    let name = scratch.file();
    let expected = format!(
        "unexpected response from the broker: `{}` {DAMAGED}",
        name.display()
    );
    let leased = common::lease(&broker, 1).await.expect_err("damaged");
    assert!(matches!(leased, BrokerError::Protocol(_)), "{leased}");
    assert_eq!(leased.to_string(), expected);
    let added = common::enqueue(&broker, "task").await.expect_err("damaged");
    assert_eq!(added.to_string(), expected);
    // The connection survives it.
    broker.ping().await.expect("a response");
}

/// Gives the oldest task of a queue an id that no task has.
fn damage_a_row(file: &Path, queue: &str) {
    let program = common::program(file);
    for table in ["asynqueue_ready", "asynqueue_task"] {
        let number = "(select id from asynqueue_queue where name = ?1)";
        let sql =
            format!("update {table} set id = x'00' where queue = {number} and id = 'damaged'");
        assert_eq!(program.execute(&sql, [queue]).expect("a row"), 1, "{table}");
    }
}

#[tokio::test]
async fn a_damaged_row_of_one_queue_harms_no_other() {
    let scratch = Scratch::new();
    let broker = common::open(scratch.file()).await;
    for (queue, task) in [
        ("first", "damaged"),
        ("second", "good"),
        ("second", "better"),
    ] {
        common::enqueue_in(&broker, queue, task, 10)
            .await
            .expect("a task");
    }
    damage_a_row(&scratch.file(), "first");

    let request = common::request(&["first", "second"], 10);
    let leased = Store::lease(&broker, &request).await.expect("results");
    let error = leased[0].as_ref().expect_err("the row is damaged");
    assert_eq!(
        error.to_string(),
        "unexpected response from the broker: a row has an invalid task id"
    );
    let good = leased[1].as_ref().expect("the other queue has none");
    assert_eq!(common::names(good), ["good", "better"]);

    let queues = [Name::from("first"), Name::from("second")];
    let trimmed = Store::trim(&broker, &queues, Keep::default(), 100)
        .await
        .expect("results");
    assert!(trimmed.iter().all(Result::is_ok));
    let settled = [&good[0], &good[1]]
        .map(|leased| leased.clone().settle(Outcome::Complete { result: None }));
    let settled = Store::settle(&broker, &settled).await.expect("results");
    assert!(
        settled
            .iter()
            .all(|settled| matches!(settled, Ok(Settled::Recorded)))
    );
}

#[tokio::test]
async fn a_damaged_row_that_is_due_or_expired_harms_no_other_queue() {
    let scratch = Scratch::new();
    let broker = common::open(scratch.file()).await;
    for (queue, task) in [("first", "damaged"), ("second", "good")] {
        common::enqueue_in(&broker, queue, task, 10)
            .await
            .expect("a task");
    }
    let mut request = common::request(&["first", "second"], 10);
    request.lease = std::time::Duration::ZERO;
    Store::lease(&broker, &request).await.expect("leases");
    let program = common::program(scratch.file());
    for table in ["asynqueue_lease", "asynqueue_task"] {
        let sql = format!("update {table} set id = x'00' where id = 'damaged'");
        assert_eq!(program.execute(&sql, []).expect("a row"), 1);
    }
    let queues = [Name::from("first"), Name::from("second")];
    let expired = Store::expired(&broker, &queues, Timestamp::MAX, 10)
        .await
        .expect("results");
    assert!(expired[0].is_err(), "the row is damaged");
    assert_eq!(
        common::names(expired[1].as_ref().expect("a task")),
        ["good"]
    );

    // As a retry that is due.
    program
        .execute_batch("delete from asynqueue_lease; update asynqueue_task set state = 4, at = 1")
        .expect("rows");
    program
        .execute_batch("update asynqueue_queue set active = 0, retry = 1")
        .expect("rows");
    let forwarded = Store::forward(&broker, &queues, 10).await.expect("results");
    assert!(forwarded[0].is_err(), "the row is damaged");
    assert_eq!(forwarded[1].as_ref().expect("a result").moved, 1);
    assert_eq!(common::pending(&broker).await.expect("a number"), 0);
}

#[tokio::test]
async fn an_unreadable_task_is_released_unchanged_and_delays_no_other() {
    let scratch = Scratch::new();
    let broker = common::open(scratch.file()).await;
    for task in ["a", "b", "c"] {
        common::enqueue(&broker, task).await.expect("a task");
    }
    let garbled = "update asynqueue_task set envelope = cast('garbled' as blob) where id = 'b'";
    let program = common::program(scratch.file());
    assert_eq!(program.execute(garbled, []).expect("a row"), 1);

    assert_eq!(common::drain(&broker).await, ["a", "c"]);
    let found = Store::tasks(&broker, &[common::task_ref("b")]).await;
    let found = found.expect("read").remove(0).expect("the task is kept");
    assert_eq!(found.state, TaskState::Scheduled);
    // Another build may be able to read it.
    assert_eq!(found.envelope.codec, CodecName::unreadable());
    assert_eq!(found.envelope.payload, "garbled");
}
