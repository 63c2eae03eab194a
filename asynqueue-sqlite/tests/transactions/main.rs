//! Tasks and outcomes in the application's own transactions.

mod complete;
mod enqueue;

use std::{path::PathBuf, time::Duration};

use asynqueue_conformance::transactions::Credit;
use asynqueue_core::{
    broker::Inspect,
    producer::Producer,
    task::{Name, TaskState},
};
use asynqueue_macros::Task;
use asynqueue_sqlite::{SqliteBroker, SqliteOptions};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

#[derive(Clone, Serialize, Deserialize, Task)]
#[task(event = "later", crate = asynqueue_core, unique(ttl = "1h"))]
struct Once {
    key: u64,
}

/// An application with its own table in the file of the broker.
struct Shop {
    path: PathBuf,
    broker: SqliteBroker,
    producer: Producer,
    _folder: TempDir,
}

impl Shop {
    async fn open() -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("shop.db");
        let broker = SqliteBroker::connect(SqliteOptions::file(&path))
            .await
            .expect("a broker");
        let shop = Self {
            producer: Producer::new(broker.clone()),
            path,
            broker,
            _folder: folder,
        };
        let table =
            "create table account (id integer primary key, cents integer not null default 0)";
        shop.db().execute_batch(table).expect("a table");
        shop
    }

    fn db(&self) -> Connection {
        connect(&self.path)
    }

    async fn pending(&self) -> u64 {
        let queues = [Name::from("default")];
        self.broker.stats(&queues).await.expect("figures")[0].count(TaskState::Pending)
    }

    fn credited(&self) -> (u64, u64) {
        let sum = "select count(*), coalesce(sum(cents), 0) from account";
        self.db()
            .query_row(sum, [], |row| {
                Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64))
            })
            .expect("a row")
    }
}

fn connect(path: &PathBuf) -> Connection {
    let db = Connection::open(path).expect("a connection");
    db.busy_timeout(Duration::from_secs(10)).expect("set");
    db
}

fn begin(db: &mut Connection) -> Transaction<'_> {
    db.transaction_with_behavior(TransactionBehavior::Immediate)
        .expect("a transaction")
}

fn add(tx: &Transaction<'_>, cents: u64) {
    tx.execute("insert into account (cents) values (?1)", [cents as i64])
        .expect("inserted");
}
