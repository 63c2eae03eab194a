//! An application whose data is in PostgreSQL.

use std::collections::BTreeMap;

use asynqueue::{
    postgres::{PostgresOptions, PostgresOutbox},
    prelude::*,
};
use asynqueue_test_servers::Postgres;
use tokio_postgres::{Client, NoTls};

use crate::{
    order,
    stage::{Database, Line, Program},
};

/// A server with a table of the application.
pub(crate) struct Server(Postgres);

impl Database for Server {
    type Program = Writer;

    /// Processes are killed, and the machine is not: nothing has to wait for its disk.
    async fn create() -> Self {
        let server = Postgres::fast().await;
        server
            .execute("create table orders (id bigint generated always as identity, task text, queue text, writer bigint)")
            .await;
        Self(server)
    }

    fn address(&self) -> String {
        self.0.url()
    }

    async fn orders(&self) -> usize {
        let db = self.0.client().await;
        let count = db.query_one("select count(*) from orders", &[]).await;
        count.expect("a count").get::<_, i64>(0) as usize
    }

    /// Transactions of several processes overlap, so only those of one process have an order.
    async fn committed(&self) -> BTreeMap<Line, Vec<String>> {
        let db = self.0.client().await;
        let orders = "select queue, writer, task from orders order by id";
        let orders = db.query(orders, &[]).await.expect("rows");
        let mut committed: BTreeMap<Line, Vec<String>> = BTreeMap::new();
        for order in orders {
            let line = (order.get(0), order.get(1));
            committed.entry(line).or_default().push(order.get(2));
        }
        committed
    }

    async fn crash(&mut self) {
        self.0.kill();
        self.0.restart().await;
    }
}

pub(crate) struct Writer {
    db: Client,
    outbox: PostgresOutbox,
}

impl Program for Writer {
    type Outbox = PostgresOutbox;

    async fn open(address: &str) -> Option<Self> {
        let options = PostgresOptions::new(address).expect("a valid URL");
        let outbox = PostgresOutbox::connect(options).await.ok()?;
        let (db, connection) = tokio_postgres::connect(address, NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(Self { db, outbox })
    }

    fn outbox(&self) -> &PostgresOutbox {
        &self.outbox
    }

    async fn place(
        &mut self,
        producer: &Producer,
        number: u64,
        end: impl FnOnce() -> bool,
    ) -> Option<()> {
        let tx = self.db.transaction().await.ok()?;
        let (queue, task) = order(producer, number);
        let task = self.outbox.enqueue_in(&tx, task).await.ok()?;
        let insert = "insert into orders (task, queue, writer) values ($1, $2, $3)";
        let writer = i64::from(std::process::id());
        tx.execute(insert, &[&task.id().as_str(), &queue, &writer])
            .await
            .ok()?;
        match end() {
            true => tx.commit().await.ok(),
            false => tx.rollback().await.ok(),
        }
    }
}
