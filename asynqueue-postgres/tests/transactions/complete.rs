//! Outcomes in transactions of handlers.

use std::{error::Error, sync::Arc};

use asynqueue_conformance::transactions::{TransactionHarness, error_of_completion};
use asynqueue_core::{
    broker::{Leased, SharedBroker},
    memory::MemoryBroker,
    process::Context,
};
use asynqueue_postgres::CompleteIn;
use asynqueue_test_servers::Postgres;
use tokio_postgres::Client;

use crate::{Shop, add, common, credited, rows};

/// A database in which handlers complete their tasks.
struct Bank {
    _server: Arc<Postgres>,
    url: String,
    has_accounts: bool,
}

impl Bank {
    async fn open() -> Self {
        let shop = Shop::open().await;
        Self {
            _server: shop.server,
            url: shop.url,
            has_accounts: true,
        }
    }

    async fn db(&self) -> Client {
        Postgres::connect(&self.url).await
    }
}

#[async_trait::async_trait]
impl TransactionHarness for Bank {
    async fn broker(&self) -> SharedBroker {
        common::open(&self.url).await.into()
    }

    async fn complete(
        &self,
        ctx: &Context,
        cents: u64,
        output: u64,
        commits: bool,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut db = self.db().await;
        let tx = db.transaction().await?;
        if self.has_accounts {
            add(&tx, cents).await;
        }
        ctx.complete_in(&tx, &output).await?;
        let again = ctx.complete_in(&tx, &output).await;
        again.expect("a second call does nothing");
        if commits {
            tx.commit().await?;
        }
        Ok(())
    }

    async fn credited(&self) -> (u64, u64) {
        let (accounts, cents) = credited(&self.db().await).await;
        (accounts as u64, cents as u64)
    }

    async fn notes(&self) -> u64 {
        rows(&self.db().await, "settled").await as u64
    }

    async fn waiters(&self) -> u64 {
        rows(&self.db().await, "waiter").await as u64
    }

    async fn take_lease(&self) {
        let other = "update lease set token = token + 1000, until = until + 3600000";
        let db = self.db().await;
        assert_eq!(db.execute(other, &[]).await.expect("another lease"), 1);
    }

    async fn complete_by_hand(&self, leased: &Leased) {
        let db = self.db().await;
        let token = leased.token.0 as i64;
        // Of a second call, the task may be gone.
        for (id, outcome) in [("(select id from task)", 1_i16), ("''", 2)] {
            let complete = format!(
                "select outcome from complete('default', {id}, $1, null, null, null, null, null)"
            );
            let row = db.query_one(&complete, &[&token]).await;
            assert_eq!(row.expect("as complete_in").get::<_, i16>(0), outcome);
        }
    }
}

asynqueue_conformance::transactions_suite!(Bank::open().await);

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_elsewhere_than_the_task_is_refused() {
    let shop = Shop::open().await;
    let other = shop.server.database("other_complete").await;
    let name = shop.url.split_once("schema=").expect("a schema").1;
    let bank = Arc::new(Bank {
        _server: Arc::clone(&shop.server),
        url: other.clone(),
        has_accounts: false,
    });
    for has_tables in [false, true] {
        if has_tables {
            common::open(&format!("{other}?schema={name}")).await;
        }
        assert_eq!(
            error_of_completion(bank.clone(), shop.broker.clone()).await,
            format!(
                "the broker does not support this: a transaction on another database: the tasks are in schema `{name}` of `postgres` at 127.0.0.1:{}; roll back, \
                 and use a connection to that database",
                shop.server.port()
            )
        );
    }
    assert_eq!(
        error_of_completion(bank.clone(), MemoryBroker::new()).await,
        "the task is not in PostgreSQL, and a transaction there cannot complete it: return the outcome from the handler"
    );
}
