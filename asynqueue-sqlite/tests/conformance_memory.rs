//! The contract suites on a database in memory.

use std::{sync::Arc, time::Duration};

use asynqueue_conformance::{store::StoreHarness, suite::Harness};
use asynqueue_core::{
    broker::{SharedBroker, Store},
    testing::TestClock,
};
use asynqueue_sqlite::{SqliteBroker, SqliteOptions};

/// A database for each test.
#[derive(Default)]
struct InMemory {
    clock: TestClock,
}

impl InMemory {
    async fn open(&self) -> SqliteBroker {
        let options = SqliteOptions::memory();
        let broker = SqliteBroker::connect(options.clock(self.clock.clone())).await;
        broker.expect("a broker")
    }
}

#[async_trait::async_trait]
impl Harness for InMemory {
    async fn broker(&self) -> SharedBroker {
        self.open().await.into()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

#[async_trait::async_trait]
impl StoreHarness for InMemory {
    async fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.open().await)
    }
}

asynqueue_conformance::conformance_suite!(InMemory::default());
asynqueue_conformance::store_suite!(InMemory::default());
