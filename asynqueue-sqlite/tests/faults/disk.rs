//! Disks that are full or cannot be written.

use std::{fs, path::Path, process::Command};

use asynqueue_core::broker::BrokerError;
use asynqueue_sqlite::SqliteBroker;

use crate::common::{self, Scratch, limited};

#[test]
fn a_full_disk_refuses_tasks_and_loses_none() {
    let scratch = Scratch::new();
    limited::run_mounted(
        "full",
        &scratch.file(),
        "mount -t tmpfs -o size=6m none \"$1\"",
    );
}

#[test]
fn the_limit_of_file_sizes_refuses_tasks_and_loses_none() {
    let scratch = Scratch::new();
    // In blocks of 512 bytes, or of 1,024 in some shells.
    let script = "trap '' XFSZ; ulimit -S -f 4000";
    limited::run_limited("limited", &scratch.file(), script);
}

#[test]
fn a_disk_that_cannot_be_written_is_refused() {
    let scratch = Scratch::new();
    let script = "mount --bind \"$1\" \"$1\"";
    limited::run_mounted("read-only", &scratch.file(), script);
}

/// Enqueues tasks of 20 KB until one is refused.
async fn fill(broker: &SqliteBroker) -> (Vec<String>, BrokerError) {
    let mut accepted = Vec::new();
    loop {
        let task = format!("task-{}", accepted.len());
        match common::enqueue_in(broker, "q", &task, 20_000).await {
            Ok(()) => accepted.push(task),
            Err(error) => return (accepted, error),
        }
        assert!(accepted.len() < 10_000, "the disk is not full");
    }
}

pub(crate) async fn on_a_full_disk(file: &Path) {
    let ballast = file.with_file_name("ballast");
    fs::write(&ballast, vec![0; 2_000_000]).expect("a file");
    let broker = common::open(file).await;
    let (accepted, error) = fill(&broker).await;
    assert!(matches!(error, BrokerError::Full(_)), "{error}");
    let file_name = file.display();
    assert_eq!(
        error.to_string(),
        format!("the broker is full: `{file_name}` has no room: free space on its disk")
    );
    assert!(error.is_temporary());
    assert!(accepted.len() > 10, "{}", accepted.len());
    fs::remove_file(&ballast).expect("space");
    // The log takes the free space, until it has been moved into the file. A server sends its calls again.
    let mut leased = Vec::new();
    common::eventually("tasks are leased", async || {
        leased = common::lease(&broker, 10_000).await.unwrap_or_default();
        !leased.is_empty()
    })
    .await;
    assert_eq!(common::names(&leased), accepted);
    for one in &leased {
        common::eventually("an outcome is recorded", async || {
            common::complete(&broker, one).await.is_ok()
        })
        .await;
    }
    assert_eq!(common::pending(&broker).await.expect("a number"), 0);
    common::work(&broker, "after").await;
    broker_closes(broker, file).await;
}

async fn broker_closes(broker: SqliteBroker, file: &Path) {
    asynqueue_core::broker::Store::close(&broker).await;
    let again = common::open(file).await;
    common::work(&again, "again").await;
}

pub(crate) async fn beyond_the_limit(file: &Path) {
    let broker = common::open(file).await;
    let (accepted, error) = fill(&broker).await;
    assert!(matches!(error, BrokerError::Unavailable(_)), "{error}");
    let file_name = file.display();
    assert_eq!(
        error.to_string(),
        format!(
            "the broker is unavailable: `{file_name}` cannot be read or written: check its disk, and the limits of file sizes and quotas"
        )
    );
    let own = std::process::id().to_string();
    let raised = Command::new("prlimit")
        .args(["--fsize=unlimited:unlimited", "--pid", &own])
        .status();
    let raised = raised.expect("prlimit runs");
    assert!(raised.success());
    assert_eq!(common::drain(&broker).await, accepted);
    common::work(&broker, "after").await;
    broker_closes(broker, file).await;
}

fn remount(folder: &Path, how: &str) {
    let mut mount = Command::new("mount");
    let mount = mount.args(["-o", how]).arg(folder);
    assert!(mount.status().expect("mount runs").success(), "{how}");
}

pub(crate) async fn on_a_read_only_disk(file: &Path) {
    let folder = file.parent().expect("a folder");
    let name = file.display();

    remount(folder, "remount,ro,bind");
    let refused = common::try_open(file).await.expect_err("there is no file");
    let cannot_create = format!(
        "`{name}` cannot be opened: check that its folder exists and that this user may write to it"
    );
    assert_eq!(refused.to_string(), cannot_create);

    remount(folder, "remount,rw,bind");
    let broker = common::open(file).await;
    common::enqueue(&broker, "kept").await.expect("a task");
    asynqueue_core::broker::Store::close(&broker).await;
    drop(broker);

    let cannot_write = format!(
        "`{name}` cannot be written: give this user write access to the file, its `-wal` and `-shm` files and its folder"
    );
    remount(folder, "remount,ro,bind");
    let refused = common::try_open(file).await.expect_err("read-only");
    assert_eq!(refused.to_string(), cannot_create, "without a log");

    remount(folder, "remount,rw,bind");
    leave_a_log(file);
    remount(folder, "remount,ro,bind");
    let refused = common::try_open(file).await.expect_err("read-only");
    assert_eq!(refused.to_string(), cannot_write, "with a log");

    remount(folder, "remount,rw,bind");
    let broker = common::open(file).await;
    assert_eq!(common::drain(&broker).await, ["kept"]);
}

/// Leaves what a process leaves that was killed: a log with content.
fn leave_a_log(file: &Path) {
    let program = common::program(file);
    let change = "pragma wal_autocheckpoint = 0; create table other (a)";
    program.execute_batch(change).expect("a table");
    let left = ["", "-wal", "-shm"].map(|end| file.with_file_name(format!("tasks.db{end}")));
    let bytes = left.clone().map(|path| fs::read(path).expect("a file"));
    drop(program);
    for (path, bytes) in left.iter().zip(bytes) {
        fs::write(path, bytes).expect("a file");
    }
}
