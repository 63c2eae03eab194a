//! Random operations: SQLite behaves as the in-memory broker and the model.

use asynqueue_conformance::{
    history::{self, Plan},
    property,
};
use asynqueue_core::{
    broker::{SharedBroker, Store},
    memory::MemoryBroker,
    testing::TestClock,
};
use asynqueue_sqlite::{SqliteBroker, SqliteOptions};
use proptest::test_runner::{Config, TestRunner};
use std::{path::Path, sync::Arc};
use tempfile::TempDir;

const CASES: u32 = 48;

async fn broker(clock: &TestClock) -> SharedBroker {
    let options = SqliteOptions::memory().clock(clock.clone());
    SqliteBroker::connect(options)
        .await
        .expect("a broker")
        .into()
}

#[test]
fn sqlite_behaves_as_the_model() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    TestRunner::new(Config::with_cases(CASES))
        .run(&property::operations(40), |operations| {
            let clock = TestClock::default();
            runtime.block_on(async {
                let broker = broker(&clock).await;
                property::check(&broker, &operations, async |by| clock.advance(by)).await
            })?;
            Ok(())
        })
        .expect("SQLite behaves as the model");
}

#[test]
fn sqlite_behaves_as_the_in_memory_broker() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    TestRunner::new(Config::with_cases(CASES))
        .run(&property::operations_with_groups(40), |operations| {
            let clock = TestClock::default();
            runtime.block_on(async {
                let reference = MemoryBroker::with_clock(clock.clone()).into();
                let broker = broker(&clock).await;
                let advance = async |by| clock.advance(by);
                property::compare(&reference, &broker, &operations, advance).await
            })?;
            Ok(())
        })
        .expect("SQLite behaves as the in-memory broker");
}

/// One handle on the file, as another process has one.
async fn handle(path: &Path, clock: &TestClock) -> Arc<dyn Store> {
    let options = SqliteOptions::file(path).clock(clock.clone());
    Arc::new(SqliteBroker::connect(options).await.expect("a broker"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_calls_of_several_handles_are_linearizable() {
    for seed in 0..10 {
        let (folder, clock) = (TempDir::new().expect("a folder"), TestClock::default());
        let path = folder.path().join("tasks.db");
        let mut handles = Vec::new();
        for _ in 0..3 {
            handles.push(handle(&path, &clock).await);
        }
        let judged = history::check_store(&handles, &Plan::new(seed), &()).await;
        judged.expect("the calls have an order");
    }
}
