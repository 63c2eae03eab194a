//! The tests of outboxes on a SQLite file.

use std::{sync::Arc, time::Duration};

use asynqueue_conformance::outbox::OutboxHarness;
use asynqueue_core::{
    broker::{NewTask, When},
    outbox::Outbox,
};
use asynqueue_sqlite::SqliteOutbox;
use rusqlite::{Connection, TransactionBehavior};
use tempfile::TempDir;

struct OnFile(TempDir);

impl Default for OnFile {
    fn default() -> Self {
        Self(TempDir::new().expect("a folder"))
    }
}

#[async_trait::async_trait]
impl OutboxHarness for OnFile {
    async fn outbox(&self) -> Arc<dyn Outbox> {
        let outbox = SqliteOutbox::open(self.0.path().join("shop.db")).await;
        outbox.expect("an outbox").into()
    }

    async fn commit(&self, tasks: Vec<NewTask>) {
        let mut db = Connection::open(self.0.path().join("shop.db")).expect("a connection");
        db.busy_timeout(Duration::from_secs(10)).expect("set");
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate);
        let tx = tx.expect("a transaction");
        for task in tasks {
            let envelope = &task.envelope;
            let due = match task.when {
                When::At(time) => Some(time.as_millis() as i64),
                _ => None,
            };
            let at = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a time");
            tx.execute(
                "insert into asynqueue_outbox (queue, task, event, envelope, due, at) values (?1, ?2, ?3, ?4, ?5, ?6)",
                (
                    envelope.queue.as_str(),
                    envelope.id.as_str(),
                    envelope.event.as_str(),
                    envelope.to_bytes(),
                    due,
                    at.as_millis() as i64,
                ),
            )
            .expect("inserted");
        }
        tx.commit().expect("committed");
    }
}

asynqueue_conformance::outbox_suite!(OnFile::default());
