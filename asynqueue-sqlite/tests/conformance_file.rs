//! The contract suites on a file.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use asynqueue_conformance::{store::StoreHarness, suite::Harness};
use asynqueue_core::{
    broker::{SharedBroker, Store},
    testing::TestClock,
};
use asynqueue_sqlite::{SqliteBroker, SqliteOptions};
use tempfile::TempDir;

/// A file for each test.
#[derive(Default)]
struct OnFile {
    clock: TestClock,
    folder: OnceLock<TempDir>,
}

impl OnFile {
    async fn open(&self) -> SqliteBroker {
        let folder = self
            .folder
            .get_or_init(|| TempDir::new().expect("a folder"));
        let options = SqliteOptions::file(folder.path().join("tasks.db"));
        let broker = SqliteBroker::connect(options.clock(self.clock.clone())).await;
        broker.expect("a broker")
    }
}

#[async_trait::async_trait]
impl Harness for OnFile {
    async fn broker(&self) -> SharedBroker {
        self.open().await.into()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

#[async_trait::async_trait]
impl StoreHarness for OnFile {
    async fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.open().await)
    }
}

asynqueue_conformance::conformance_suite!(OnFile::default());
asynqueue_conformance::store_suite!(OnFile::default());
