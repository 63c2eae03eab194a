//! Outcomes in transactions of handlers.

use std::{error::Error, sync::Arc};

use asynqueue_conformance::transactions::{TransactionHarness, error_of_completion};
use asynqueue_core::{
    broker::{Leased, SharedBroker},
    memory::MemoryBroker,
    process::Context,
};
use asynqueue_sqlite::{CompleteIn, SqliteBroker, SqliteOptions};

use crate::{Shop, add, begin};

impl Shop {
    fn rows(&self, table: &str) -> u64 {
        let count = format!("select count(*) from {table}");
        let count = self.db().query_row(&count, [], |row| row.get::<_, i64>(0));
        count.expect("a row") as u64
    }
}

#[async_trait::async_trait]
impl TransactionHarness for Shop {
    async fn broker(&self) -> SharedBroker {
        let broker = SqliteBroker::connect(SqliteOptions::file(&self.path)).await;
        broker.expect("a broker").into()
    }

    async fn complete(
        &self,
        ctx: &Context,
        cents: u64,
        output: u64,
        commits: bool,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut db = self.db();
        let tx = begin(&mut db);
        add(&tx, cents);
        ctx.complete_in(&tx, &output)?;
        let again = ctx.complete_in(&tx, &output);
        again.expect("a second call does nothing");
        if commits {
            tx.commit()?;
        }
        Ok(())
    }

    async fn credited(&self) -> (u64, u64) {
        self.credited()
    }

    async fn notes(&self) -> u64 {
        self.rows("asynqueue_settled")
    }

    async fn waiters(&self) -> u64 {
        self.rows("asynqueue_waiter")
    }

    async fn take_lease(&self) {
        let other = "update asynqueue_lease set token = token + 1000";
        assert_eq!(self.db().execute(other, []).expect("another lease"), 1);
    }

    async fn complete_by_hand(&self, _: &Leased) {
        let complete = "begin immediate; insert into asynqueue_settled select token, 0 from asynqueue_lease; \
             delete from asynqueue_lease; delete from asynqueue_task; commit";
        self.db().execute_batch(complete).expect("as complete_in");
    }
}

asynqueue_conformance::transactions_suite!(Shop::open().await);

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_another_file_than_that_of_the_task_is_refused() {
    let (shop, other) = (Shop::open().await, Arc::new(Shop::open().await));
    let (file, other_file) = (shop.path.display(), other.path.display());
    let refused = async |broker: SharedBroker| error_of_completion(other.clone(), broker).await;
    assert_eq!(
        refused(shop.broker.clone().into()).await,
        format!(
            "the broker does not support this: a transaction on `{other_file}`: the tasks are in `{file}`; open the connection on that file"
        )
    );
    assert_eq!(other.credited(), (0, 0));
    let memory = SqliteBroker::connect(SqliteOptions::memory()).await;
    assert_eq!(
        refused(memory.expect("a broker").into()).await,
        "the broker does not support this: a transaction of the application: a database in memory has one connection; use a file"
    );
    assert_eq!(
        refused(MemoryBroker::new().into()).await,
        "the task is not in a SQLite database, and a transaction of one cannot complete it: return the outcome from the handler"
    );
}
