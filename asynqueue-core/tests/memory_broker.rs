//! The in-memory broker keeps what every broker owes.

use std::time::Duration;

use asynqueue_core::{
    MemoryBroker, SharedBroker,
    testing::{TestClock, conformance::Harness},
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

asynqueue_core::conformance_suite!(InMemory::default());
