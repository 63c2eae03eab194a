//! Files that are deleted, moved or replaced while they are open.

use std::{fs, path::Path};

use asynqueue_core::broker::{BrokerError, Store};

use crate::common::{self, Scratch};

fn beside(file: &Path, end: &str) -> std::path::PathBuf {
    file.with_file_name(format!("tasks.db{end}"))
}

fn unavailable(problem: &str) -> String {
    format!("the broker is unavailable: {problem}")
}

#[tokio::test]
async fn a_file_that_was_moved_fails_calls_until_it_is_back() {
    let scratch = Scratch::new();
    let broker = common::open(scratch.file()).await;
    common::enqueue(&broker, "before").await.expect("a task");
    let elsewhere = scratch.folder().join("elsewhere.db");
    fs::rename(scratch.file(), &elsewhere).expect("a move");

    let name = scratch.file();
    let expected = unavailable(&format!(
        "`{}` was deleted or moved: move it back, or restart the program to start with an empty file",
        name.display()
    ));
    for error in [
        common::enqueue(&broker, "refused")
            .await
            .expect_err("it is gone"),
        common::lease(&broker, 1).await.expect_err("it is gone"),
        common::pending(&broker).await.expect_err("it is gone"),
        broker.ping().await.expect_err("it is gone"),
    ] {
        assert!(matches!(error, BrokerError::Unavailable(_)), "{error}");
        assert_eq!(error.to_string(), expected);
    }
    assert!(!scratch.file().exists(), "no call creates another file");

    fs::rename(&elsewhere, scratch.file()).expect("a move");
    assert_eq!(common::drain(&broker).await, ["before"]);
    common::work(&broker, "after").await;
}

#[tokio::test]
async fn a_file_that_was_replaced_is_not_written() {
    let scratch = Scratch::new();
    let broker = common::open(scratch.file()).await;
    common::enqueue(&broker, "old").await.expect("a task");
    let other = Scratch::new();
    let replacing = common::open(other.file()).await;
    common::enqueue(&replacing, "new").await.expect("a task");
    replacing.close().await;
    fs::rename(other.file(), scratch.file()).expect("a move");

    let error = common::enqueue(&broker, "refused")
        .await
        .expect_err("it is another");
    let name = scratch.file();
    let expected = format!(
        "`{}` was replaced by another file: end all programs that use it, delete its `-wal` and `-shm` files, and start them again",
        name.display()
    );
    assert_eq!(error.to_string(), unavailable(&expected));
    broker.close().await;
    for end in ["-wal", "-shm"] {
        fs::remove_file(beside(&scratch.file(), end)).ok();
    }
    let restarted = common::open(scratch.file()).await;
    assert_eq!(common::drain(&restarted).await, ["new"]);
}

#[tokio::test]
async fn a_deleted_log_loses_nothing_once_all_programs_restart() {
    for ends in [&["-wal"][..], &["-shm"], &["-wal", "-shm"]] {
        let scratch = Scratch::new();
        let brokers = [
            common::open(scratch.file()).await,
            common::open(scratch.file()).await,
        ];
        common::enqueue(&brokers[0], "first").await.expect("a task");
        common::enqueue(&brokers[1], "second")
            .await
            .expect("a task");
        for end in ends {
            fs::remove_file(beside(&scratch.file(), end)).expect("a file");
        }
        for broker in &brokers {
            let error = common::enqueue(broker, "refused")
                .await
                .expect_err("it is gone");
            let (gone, name) = (beside(&scratch.file(), ends[0]), scratch.file());
            let expected = format!(
                "`{}` was deleted or replaced while it was in use: end all programs that use `{}`, and start them again",
                gone.display(),
                name.display()
            );
            assert_eq!(error.to_string(), unavailable(&expected));
        }
        for broker in &brokers {
            broker.close().await;
        }
        let restarted = common::open(scratch.file()).await;
        assert_eq!(common::drain(&restarted).await, ["first", "second"]);
        common::work(&restarted, "after").await;
    }
}
