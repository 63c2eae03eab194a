//! The in-memory broker keeps what every broker owes.

use std::time::Duration;

use asynqueue_conformance::suite::Harness;
use asynqueue_core::{broker::SharedBroker, memory::MemoryBroker, testing::TestClock};

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

asynqueue_conformance::conformance_suite!(InMemory::default());
