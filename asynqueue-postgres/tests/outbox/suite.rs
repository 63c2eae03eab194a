//! The contract suite of outboxes.

use std::sync::Arc;

use asynqueue_conformance::outbox::OutboxHarness;
use asynqueue_core::{
    broker::{NewTask, When},
    outbox::Outbox,
};
use asynqueue_test_servers::Postgres;
use tokio::sync::OnceCell;

use crate::open;

/// A schema for each test.
#[derive(Default)]
struct InSchema(OnceCell<(Arc<Postgres>, String)>);

impl InSchema {
    async fn url(&self) -> &str {
        let start = || async {
            let server = Postgres::shared().await;
            let url = server.new_schema();
            (server, url)
        };
        &self.0.get_or_init(start).await.1
    }
}

#[async_trait::async_trait]
impl OutboxHarness for InSchema {
    async fn outbox(&self) -> Arc<dyn Outbox> {
        open(self.url().await).await.into()
    }

    async fn commit(&self, tasks: Vec<NewTask>) {
        let mut db = Postgres::connect(self.url().await).await;
        let tx = db.transaction().await.expect("a transaction");
        for task in tasks {
            let envelope = &task.envelope;
            let due = match task.when {
                When::At(time) => Some(time.as_millis() as i64),
                _ => None,
            };
            tx.execute(
                "insert into outbox (queue, task, event, envelope, due, at) \
                 values ($1, $2, $3, $4, $5, (extract(epoch from now()) * 1000)::bigint)",
                &[
                    &envelope.queue.as_str(),
                    &envelope.id.as_str(),
                    &envelope.event.as_str(),
                    &envelope.to_bytes(),
                    &due,
                ],
            )
            .await
            .expect("inserted");
        }
        tx.commit().await.expect("committed");
    }
}

asynqueue_conformance::outbox_suite!(InSchema::default());
