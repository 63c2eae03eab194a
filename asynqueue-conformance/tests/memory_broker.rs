//! The in-memory broker passes the conformance suite.

use std::{sync::Arc, time::Duration};

use asynqueue_conformance::{store::StoreHarness, suite::Harness};
use asynqueue_core::{
    broker::{SharedBroker, Store},
    memory::MemoryBroker,
    testing::TestClock,
};

#[derive(Default)]
struct InMemory {
    clock: TestClock,
}

#[async_trait::async_trait]
impl Harness for InMemory {
    async fn broker(&self) -> SharedBroker {
        MemoryBroker::with_clock(self.clock.clone()).into()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

#[async_trait::async_trait]
impl StoreHarness for InMemory {
    async fn store(&self) -> Arc<dyn Store> {
        Arc::new(MemoryBroker::with_clock(self.clock.clone()))
    }
}

asynqueue_conformance::conformance_suite!(InMemory::default());
asynqueue_conformance::store_suite!(InMemory::default());
