//! The threads and the files of a broker end with it.
//!
//! Threads and open files belong to the process, so each test has a process of its own.

use std::fs;

use asynqueue_core::broker::{BrokerError, Store};
use futures_util::StreamExt;

use crate::common::{self, Scratch};

/// The open files of this process below a folder.
fn open_files(scratch: &Scratch) -> usize {
    let files = fs::read_dir("/proc/self/fd").expect("a list");
    let paths = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    paths
        .filter(|path| path.starts_with(scratch.folder()))
        .count()
}

#[tokio::test]
async fn dropping_all_handles_closes_the_file() {
    let scratch = Scratch::new();
    let broker = common::open(scratch.file()).await;
    let clone = broker.clone();
    common::work(&broker, "task").await;
    drop(broker);
    common::work(&clone, "another").await;
    let signals = clone.signals(&["q".into()]).await.expect("signals");
    assert!(open_files(&scratch) > 3);
    drop((clone, signals));
    common::eventually("all files are closed", async || open_files(&scratch) == 0).await;
    assert!(
        !scratch.folder().join("tasks.db-wal").exists(),
        "the log was moved"
    );
    assert_eq!(sockets(&scratch), 0);
    assert_eq!(
        common::drain(&common::open(scratch.file()).await).await,
        [""; 0]
    );
}

/// The sockets of processes.
fn sockets(scratch: &Scratch) -> usize {
    let live = fs::read_dir(scratch.folder().join("tasks.db-live")).expect("a folder");
    let names = live.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.ends_with(".wake")).count()
}

#[tokio::test]
async fn close_returns_once_the_file_is_closed_and_the_log_is_in_it() {
    // Often, since an order of threads may hide what is missing.
    for _ in 0..20 {
        let scratch = Scratch::new();
        let broker = common::open(scratch.file()).await;
        let mut signals = broker.signals(&["q".into()]).await.expect("signals");
        common::enqueue(&broker, "task").await.expect("a task");
        signals.next().await.expect("a signal");
        assert_eq!(sockets(&scratch), 1);
        let calls = (0..10).map(|n| {
            let broker = broker.clone();
            tokio::spawn(async move { common::enqueue(&broker, &format!("late-{n}")).await })
        });
        let calls: Vec<_> = calls.collect();
        tokio::task::yield_now().await;
        tokio::join!(broker.close(), broker.close());
        for end in ["-wal", "-shm"] {
            assert!(
                !scratch.folder().join(format!("tasks.db{end}")).exists(),
                "{end}"
            );
        }
        assert_eq!(sockets(&scratch), 0);
        assert!(signals.next().await.is_none());
        let mut accepted = 1;
        for call in calls {
            match call.await.expect("it ends") {
                Ok(()) => accepted += 1,
                Err(error) => assert!(matches!(error, BrokerError::Closed), "{error}"),
            }
        }
        assert!(matches!(broker.ping().await, Err(BrokerError::Closed)));
        let again = common::open(scratch.file()).await;
        assert_eq!(common::drain(&again).await.len(), accepted);
    }
}
