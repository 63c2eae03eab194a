//! An application whose data is in a SQLite file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use asynqueue::{prelude::*, sqlite::SqliteOutbox};
use rusqlite::{Connection, TransactionBehavior};
use tempfile::TempDir;

use crate::{
    order,
    stage::{Database, Line, Program},
};

/// A file with a table of the application.
pub(crate) struct File {
    folder: TempDir,
}

impl File {
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("shop.db")
    }
}

impl Database for File {
    type Program = Writer;

    async fn create() -> Self {
        let file = Self {
            folder: TempDir::new().expect("a folder"),
        };
        let db = connect(&file.path());
        db.execute_batch(
            "pragma journal_mode = wal; create table orders (id integer primary key, task text, queue text)",
        )
        .expect("a table");
        file
    }

    fn address(&self) -> String {
        self.path().to_str().expect("text").to_owned()
    }

    async fn orders(&self) -> usize {
        let db = connect(&self.path());
        let count = "select count(*) from orders";
        let count = db.query_row(count, [], |row| row.get::<_, i64>(0));
        count.expect("a count") as usize
    }

    /// One process writes at a time, so the tasks of all processes are in the order of the commits.
    async fn committed(&self) -> BTreeMap<Line, Vec<String>> {
        let db = connect(&self.path());
        let mut orders = db
            .prepare("select queue, task from orders order by id")
            .expect("valid");
        let orders = orders.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        let mut committed: BTreeMap<Line, Vec<String>> = BTreeMap::new();
        for order in orders.expect("rows") {
            let (queue, task): (String, String) = order.expect("a row");
            committed.entry((queue, 0)).or_default().push(task);
        }
        committed
    }

    /// It has no server.
    async fn crash(&mut self) {}
}

pub(crate) fn connect(path: &Path) -> Connection {
    let db = Connection::open(path).expect("a connection");
    db.busy_timeout(Duration::from_secs(30)).expect("set");
    db.pragma_update(None, "synchronous", "normal")
        .expect("set");
    db
}

pub(crate) struct Writer {
    db: Connection,
    outbox: SqliteOutbox,
}

impl Program for Writer {
    type Outbox = SqliteOutbox;

    async fn open(address: &str) -> Option<Self> {
        let path = Path::new(address);
        let outbox = SqliteOutbox::open(path).await.expect("an outbox");
        let db = connect(path);
        Some(Self { db, outbox })
    }

    fn outbox(&self) -> &SqliteOutbox {
        &self.outbox
    }

    async fn place(
        &mut self,
        producer: &Producer,
        number: u64,
        end: impl FnOnce() -> bool,
    ) -> Option<()> {
        let tx = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate);
        let tx = tx.expect("a transaction");
        let (queue, task) = order(producer, number);
        let task = self.outbox.enqueue_in(&tx, task).expect("written");
        tx.execute(
            "insert into orders (task, queue) values (?1, ?2)",
            (task.id().as_str(), queue),
        )
        .expect("inserted");
        match end() {
            true => tx.commit().expect("committed"),
            false => tx.rollback().expect("rolled back"),
        }
        Some(())
    }
}
