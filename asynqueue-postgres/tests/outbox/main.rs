//! The outbox on a real PostgreSQL.

mod commits;
mod deployment;
mod lost;
mod suite;
#[cfg(feature = "sqlx")]
mod with_sqlx;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{LeaseRequest, Store, all_of},
    memory::MemoryBroker,
    outbox::{Entry, Outbox, Relay, RelayHandle, Take, Taken},
    producer::{Prepared, Producer},
    task::{Name, TaskState},
};
use asynqueue_macros::Task;
use asynqueue_postgres::{PostgresOptions, PostgresOutbox};
use asynqueue_test_servers::{Postgres, eventually};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

#[derive(Clone, Serialize, Deserialize, Task)]
#[task(event = "credit", crate = asynqueue_core)]
struct Credit {
    cents: i64,
}

/// An application, whose tasks are on another broker.
struct Shop {
    server: Arc<Postgres>,
    url: String,
    broker: MemoryBroker,
    producer: Producer,
    outbox: PostgresOutbox,
}

impl Shop {
    async fn open() -> Self {
        let server = Postgres::shared().await;
        let url = server.new_schema();
        Self::at(server, url).await
    }

    async fn at(server: Arc<Postgres>, url: String) -> Self {
        let broker = MemoryBroker::new();
        let outbox = open(&url).await;
        let db = Postgres::connect(&url).await;
        let table =
            "create table account (id bigint generated always as identity, cents bigint not null)";
        db.batch_execute(table).await.expect("a table");
        Self {
            producer: Producer::new(broker.clone()),
            server,
            url,
            broker,
            outbox,
        }
    }

    async fn db(&self) -> Client {
        Postgres::connect(&self.url).await
    }

    fn credit(&self, cents: i64) -> Prepared<Credit> {
        self.producer.prepare(Credit { cents }).expect("prepared")
    }

    fn relay(&self) -> RelayHandle {
        Relay::new(self.broker.clone(), self.outbox.clone()).start()
    }

    /// Waits until nothing is left to relay.
    async fn drained(&self) {
        eventually("all is relayed", async || {
            self.outbox.size().await.expect("a size").waiting == 0
        })
        .await;
    }

    /// Relays everything that is committed.
    async fn relay_all(&self) {
        let relay = self.relay();
        self.drained().await;
        relay.shutdown().await;
    }

    /// The amounts of all tasks that were accepted, in their order.
    async fn accepted(&self) -> Vec<i64> {
        let queues = vec![(Name::from("default"), 10_000)];
        let hour = Duration::from_secs(3_600);
        let request = LeaseRequest::new(queues, 10_000, hour, "worker".into());
        let leased = all_of(Store::lease(&self.broker, &request).await).expect("leased");
        let cents = |payload: &[u8]| -> i64 {
            let codec =
                asynqueue_core::codec::CodecName::of::<asynqueue_core::codec::MessagePack>();
            let credit: Credit = codec
                .decode::<_, asynqueue_core::codec::MessagePack>(payload)
                .expect("a payload");
            credit.cents
        };
        let leased = leased.into_iter().flatten();
        leased.map(|task| cents(&task.envelope.payload)).collect()
    }

    async fn pending(&self) -> u64 {
        let figures = Store::stats(&self.broker, &["default".into()]).await;
        figures.expect("figures")[0].count(TaskState::Pending)
    }
}

fn options(url: &str) -> PostgresOptions {
    PostgresOptions::new(url).expect("a valid URL")
}

async fn open(url: &str) -> PostgresOutbox {
    let outbox = PostgresOutbox::connect(options(url)).await;
    outbox.expect("an outbox")
}

/// What a relay of this name requests without limits.
fn all(relay: &Name) -> Take<'_> {
    Take {
        relay,
        turn: Duration::from_secs(60),
        except: &[],
        limit: 1_000,
        bytes: 1_000_000,
    }
}

/// Takes everything.
async fn take(outbox: &PostgresOutbox, relay: &Name) -> Vec<Entry> {
    match outbox.take(&all(relay)).await.expect("taken") {
        Taken::Turn { entries, .. } => entries,
        Taken::Busy => panic!("another relay has the turn"),
    }
}

/// Fails unless each of these was accepted once, in this order.
async fn assert_accepted(shop: &Shop, expected: impl IntoIterator<Item = i64>) {
    let accepted = shop.accepted().await;
    let distinct: BTreeSet<i64> = accepted.iter().copied().collect();
    assert_eq!(
        distinct.len(),
        accepted.len(),
        "accepted twice: {accepted:?}"
    );
    assert_eq!(accepted, expected.into_iter().collect::<Vec<_>>());
}
