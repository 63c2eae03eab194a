//! The outbox of an application whose tasks are on another broker: they wait in a table of its SQLite database.

mod relaying;
mod table;
#[cfg(feature = "sqlx")]
mod with_sqlx;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use asynqueue_core::{
    outbox::{Outbox, OutboxError, StoredTask},
    producer::{EnqueueError, Prepared, TaskHandle},
    task::{Clock, Name, SystemClock, Task, Timestamp},
};
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction};

use crate::{
    ConnectError,
    link::File,
    sql::{Direct, Fault, Sql, ready, text, time},
};
use rusqlite::types::ValueRef;

/// How long a relay waits for the transactions of the application.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// An outbox in the application's own SQLite file: tasks are enqueued in a transaction of the application, and a relay
/// moves them to the broker, for example Redis. Clones are cheap and share one outbox, and so do all processes that open
/// the same file.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use asynqueue_core::{memory::MemoryBroker, outbox::Relay, producer::Producer};
/// use asynqueue_sqlite::SqliteOutbox;
/// use rusqlite::{Connection, TransactionBehavior};
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "email:welcome", crate = asynqueue_core)]
/// # struct WelcomeEmail { user_id: i64 }
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("shop.db");
///
/// let broker = MemoryBroker::new(); // or Redis
/// let producer = Producer::new(broker.clone());
/// let outbox = SqliteOutbox::open(&path).await?;
/// let relay = Relay::new(broker, outbox.clone()).start(); // or `App::outbox`
///
/// let mut shop = Connection::open(&path)?;
/// shop.execute_batch("create table user (id integer primary key, name text)")?;
/// let tx = shop.transaction_with_behavior(TransactionBehavior::Immediate)?;
/// tx.execute("insert into user (name) values ('Ada')", [])?;
/// let user_id = tx.last_insert_rowid();
/// let task = outbox.enqueue_in(&tx, producer.prepare(WelcomeEmail { user_id })?)?;
/// tx.commit()?;
/// println!("{} will be enqueued", task.id());
/// # relay.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SqliteOutbox {
    name: Name,
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    file: File,
    clock: SystemClock,
    /// The connection of the relay. A caller's transaction never waits for it.
    db: Mutex<Connection>,
    /// What `pragma data_version` was when entries were last read.
    seen: Mutex<i64>,
}

impl SqliteOutbox {
    /// Opens the outbox of a SQLite file, and creates its tables `asynqueue_outbox…` if they do not exist. The journal
    /// mode of the file is left as it is; `wal` is recommended. The name of the outbox is that of the file.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened or written, or a later version of this library has changed the tables.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, ConnectError> {
        let path = path.as_ref().to_owned();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = Name::from(name.into_owned());
        let opened = tokio::task::spawn_blocking(move || Inner::open(path)).await;
        let inner = match opened {
            Ok(opened) => Arc::new(opened?),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        Ok(Self { name, inner })
    }

    /// Sets the name that logs, metrics and the monitor show. Default: the name of the file.
    #[must_use]
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// Writes a task to the outbox, in a transaction of the caller on the caller's connection to the same file. If the
    /// transaction is committed, a relay enqueues the task within moments; if it is rolled back, the task never existed.
    ///
    /// The id of the task is known now. The handle finds no task until the relay has enqueued it. A conflict is found
    /// then, too: the relay logs it.
    ///
    /// # Errors
    ///
    /// When a statement fails, or when the connection is to another file; roll the transaction back then.
    pub fn enqueue_in<T: Task>(
        &self,
        transaction: &Transaction<'_>,
        task: Prepared<T>,
    ) -> Result<TaskHandle<T>, EnqueueError> {
        self.check_same(transaction.path().unwrap_or_default())?;
        let mut sql = Direct(transaction);
        ready(insert(&mut sql, &task, self.inner.clock.now()))
            .map_err(|fault| self.inner.error(fault))?;
        Ok(task.in_outbox())
    }

    /// Writes tasks to the outbox in a transaction of the caller: see [`enqueue_in`](Self::enqueue_in). They are enqueued
    /// in this order.
    ///
    /// # Errors
    ///
    /// As [`enqueue_in`](Self::enqueue_in).
    pub fn enqueue_many_in<T: Task>(
        &self,
        transaction: &Transaction<'_>,
        tasks: impl IntoIterator<Item = Prepared<T>>,
    ) -> Result<Vec<TaskHandle<T>>, EnqueueError> {
        let tasks = tasks.into_iter();
        tasks
            .map(|task| self.enqueue_in(transaction, task))
            .collect()
    }

    /// Checks that a connection of a caller is to the file of the outbox.
    fn check_same(&self, other: &str) -> Result<(), EnqueueError> {
        let same = self.inner.file.check_same(other);
        same.map_err(|error| OutboxError::new(message(&error)).into())
    }
}

impl Inner {
    fn open(path: PathBuf) -> Result<Self, ConnectError> {
        let (file, db) = File::of_application(&path, BUSY_TIMEOUT)?;
        table::create(&file, &db)?;
        Ok(Self {
            path,
            file,
            clock: SystemClock,
            db: Mutex::new(db),
            seen: Mutex::new(-1),
        })
    }

    fn error(&self, fault: Fault) -> OutboxError {
        let error = self.file.broker_error(fault);
        OutboxError::new(message(&error)).caused_by(error)
    }
}

/// The message of an error without its kind, which is about brokers.
fn message(error: &asynqueue_core::broker::BrokerError) -> String {
    match error.reason() {
        Some(reason) => reason.message().to_owned(),
        None => error.to_string(),
    }
}

/// Inserts the row of a task.
async fn insert<T: Task>(
    sql: &mut impl Sql,
    task: &Prepared<T>,
    now: Timestamp,
) -> Result<(), Fault> {
    let row = StoredTask::of(task.task());
    let insert = "insert into asynqueue_outbox (queue, task, event, envelope, due, at) \
         values (?1, ?2, ?3, ?4, ?5, ?6)";
    let values = [
        text(&row.queue),
        text(&row.id),
        text(&row.event),
        ValueRef::Blob(&row.envelope),
        row.due.map_or(ValueRef::Null, time),
        time(now),
    ];
    sql.run(insert, &values).await.map(drop)
}

impl From<SqliteOutbox> for Arc<dyn Outbox> {
    fn from(outbox: SqliteOutbox) -> Self {
        Arc::new(outbox)
    }
}

impl fmt::Debug for SqliteOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteOutbox")
            .field("name", &self.name)
            .field("path", &self.inner.path)
            .finish_non_exhaustive()
    }
}
