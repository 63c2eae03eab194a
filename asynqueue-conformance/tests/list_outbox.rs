//! The tests of outboxes on the one in memory.

use std::sync::{Arc, OnceLock};

use asynqueue_conformance::outbox::{ListOutbox, OutboxHarness};
use asynqueue_core::{broker::NewTask, outbox::Outbox};

#[derive(Default)]
struct InMemory(OnceLock<ListOutbox>);

#[async_trait::async_trait]
impl OutboxHarness for InMemory {
    async fn outbox(&self) -> Arc<dyn Outbox> {
        self.0.get_or_init(ListOutbox::default).clone().into()
    }

    async fn commit(&self, tasks: Vec<NewTask>) {
        self.0.get().expect("it is open").commit(tasks);
    }
}

asynqueue_conformance::outbox_suite!(InMemory::default());
