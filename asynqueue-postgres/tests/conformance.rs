//! The contract suites on a real PostgreSQL.

use std::{sync::Arc, time::Duration};

use asynqueue_conformance::{store::StoreHarness, suite::Harness};
use asynqueue_core::{
    broker::{SharedBroker, Store},
    testing::TestClock,
};
use asynqueue_postgres::{PostgresBroker, PostgresOptions};
use asynqueue_test_servers::Postgres;
use tokio::sync::OnceCell;

/// A schema for each test.
#[derive(Default)]
struct InSchema {
    server: OnceCell<(Arc<Postgres>, String)>,
    clock: TestClock,
}

impl InSchema {
    async fn open(&self) -> PostgresBroker {
        let start = || async {
            let server = Postgres::shared().await;
            let url = server.new_schema();
            (server, url)
        };
        let (_, url) = self.server.get_or_init(start).await;
        let options = PostgresOptions::new(url).expect("a valid URL");
        let options = options.clock(self.clock.clone());
        let broker = PostgresBroker::connect(options).await;
        broker.expect("a broker")
    }
}

#[async_trait::async_trait]
impl Harness for InSchema {
    async fn broker(&self) -> SharedBroker {
        self.open().await.into()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

#[async_trait::async_trait]
impl StoreHarness for InSchema {
    async fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.open().await)
    }
}

asynqueue_conformance::conformance_suite!(InSchema::default());
asynqueue_conformance::store_suite!(InSchema::default());
