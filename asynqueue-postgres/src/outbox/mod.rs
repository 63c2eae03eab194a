//! The outbox of an application whose tasks are on another broker: they wait in a table of its PostgreSQL database.

mod relaying;
mod table;
mod take;
#[cfg(feature = "sqlx")]
mod with_sqlx;

use std::{fmt, sync::Arc};

use asynqueue_core::{
    broker::{BrokerError, Signal},
    outbox::{Outbox, OutboxError},
    producer::{EnqueueError, Prepared, TaskHandle},
    task::{Name, Task},
};
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_postgres::Transaction;

use self::take::Turn;
use crate::{
    ConnectError, PostgresOptions,
    failed::reason,
    link::{Event, Link, Watched},
    schema::OUTBOX,
    transaction::{Caller, Tokio},
};

/// The longest name of a channel, in bytes.
const LONGEST_CHANNEL: usize = 63;

/// An outbox in the application's own PostgreSQL database: tasks are enqueued in a transaction of the application, and a
/// relay moves them to the broker, for example Redis. Clones are cheap and share one outbox, and so do all processes that
/// use the same schema of the same database.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use asynqueue_core::{memory::MemoryBroker, outbox::Relay, producer::Producer};
/// use asynqueue_postgres::{PostgresOptions, PostgresOutbox};
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "email:welcome", crate = asynqueue_core)]
/// # struct WelcomeEmail { user_id: i64 }
///
/// let broker = MemoryBroker::new(); // or Redis
/// let producer = Producer::new(broker.clone());
/// let outbox = PostgresOutbox::connect(PostgresOptions::new("postgres://shop@db/shop")?).await?;
/// let relay = Relay::new(broker, outbox.clone()).start(); // or `App::outbox`
///
/// let (mut shop, connection) = tokio_postgres::connect("postgres://shop@db/shop", tokio_postgres::NoTls).await?;
/// tokio::spawn(connection);
/// let tx = shop.transaction().await?;
/// let row = tx.query_one("insert into users (name) values ('Ada') returning id", &[]).await?;
/// let task = outbox.enqueue_in(&tx, producer.prepare(WelcomeEmail { user_id: row.get(0) })?).await?;
/// tx.commit().await?;
/// println!("{} will be enqueued", task.id());
/// # relay.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PostgresOutbox {
    name: Name,
    inner: Arc<Inner>,
}

struct Inner {
    link: Link,
    /// What is announced of this outbox, once a relay uses it.
    heard: Mutex<Option<UnboundedReceiver<Signal>>>,
    /// The turn as the last relay of this handle knows it.
    turn: Mutex<Option<Turn>>,
}

impl PostgresOutbox {
    /// Connects to PostgreSQL, and creates the tables `outbox` and `outbox_meta` in the
    /// [schema](PostgresOptions::schema) of the options, unless [they say otherwise](PostgresOptions::migrate). The
    /// tables of a broker are not needed, and may be in the same schema. The name of the outbox is that of the database.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, the role may not create the tables, or a later version has changed them so
    /// that this one cannot use them.
    pub async fn connect(options: PostgresOptions) -> Result<Self, ConnectError> {
        OUTBOX.prepare(&options).await?;
        let inner = Inner {
            link: Link::open(&options, &channel(&options.schema))?,
            heard: Mutex::default(),
            turn: Mutex::default(),
        };
        Ok(Self {
            name: options.database().into(),
            inner: Arc::new(inner),
        })
    }

    /// Creates the schema and the tables of an outbox, or brings them to the version of this library. Does nothing if
    /// they have it already.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, or the role may not create them.
    pub async fn migrate(options: &PostgresOptions) -> Result<(), ConnectError> {
        OUTBOX.migrate(options).await.map(drop)
    }

    /// The statements that [`migrate`](Self::migrate) runs on a database that has no outbox yet, to be run by hand.
    pub fn schema_sql(schema: &str) -> String {
        OUTBOX.sql(schema)
    }

    /// Sets the name that logs, metrics and the monitor show. Default: the name of the database.
    #[must_use]
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// Writes a task to the outbox, in a transaction of the caller on the caller's connection to the same database. If
    /// the transaction is committed, a relay enqueues the task within moments; if it is rolled back, the task never
    /// existed.
    ///
    /// The id of the task is known now. The handle finds no task until the relay has enqueued it. A conflict is found
    /// then, too: the relay logs it.
    ///
    /// # Errors
    ///
    /// When a statement fails; roll the transaction back then.
    pub async fn enqueue_in<T: Task>(
        &self,
        transaction: &Transaction<'_>,
        task: Prepared<T>,
    ) -> Result<TaskHandle<T>, EnqueueError> {
        self.write(&mut Tokio(transaction), std::slice::from_ref(&task))
            .await?;
        Ok(task.in_outbox())
    }

    /// Writes tasks to the outbox in a transaction of the caller: see [`enqueue_in`](Self::enqueue_in). They are enqueued
    /// in this order.
    ///
    /// # Errors
    ///
    /// As [`enqueue_in`](Self::enqueue_in).
    pub async fn enqueue_many_in<T: Task>(
        &self,
        transaction: &Transaction<'_>,
        tasks: impl IntoIterator<Item = Prepared<T>>,
    ) -> Result<Vec<TaskHandle<T>>, EnqueueError> {
        let tasks: Vec<_> = tasks.into_iter().collect();
        self.write(&mut Tokio(transaction), &tasks).await?;
        Ok(tasks.into_iter().map(Prepared::in_outbox).collect())
    }

    /// Inserts the rows of tasks, and lets relays look for them once they are committed.
    async fn write<T: Task>(
        &self,
        caller: &mut impl Caller,
        mut tasks: &[Prepared<T>],
    ) -> Result<(), OutboxError> {
        let link = &self.inner.link;
        let mut number = None;
        while !tasks.is_empty() {
            let (batch, rest) = tasks.split_at(table::batch(tasks));
            let call = table::insert(batch, link.fixed());
            let written = caller.text(&link.schema.apply(call.sql), &call).await;
            number = written.map_err(|error| statement_failed(&error))?;
            tasks = rest;
        }
        if let Some(number) = number {
            link.watch(Watched::new(number, vec![written()]));
        }
        Ok(())
    }
}

/// What relays listen to.
fn signals_of() -> Name {
    Name::from("outbox")
}

/// Lets relays look for entries.
fn written() -> Event {
    let name = signals_of();
    Event::signal(&name, Signal::Pending(name.clone()))
}

/// The channel of an outbox. Those of schemas with long names that begin in the same way may share one, and look in vain.
fn channel(schema: &str) -> String {
    let mut channel = format!("outbox:{schema}");
    while channel.len() > LONGEST_CHANNEL {
        channel.pop();
    }
    channel
}

fn statement_failed(error: &crate::failed::Error) -> OutboxError {
    let problem = reason(error.as_ref());
    OutboxError::new(format!(
        "{problem}: roll back, and check that the transaction is on the database of the outbox"
    ))
}

/// The error of a call, without the kind of a [`BrokerError`], which is about brokers.
fn failed(error: BrokerError) -> OutboxError {
    let message = match error.reason() {
        Some(reason) => reason.message().to_owned(),
        None => error.to_string(),
    };
    OutboxError::new(message).caused_by(error)
}

impl From<PostgresOutbox> for Arc<dyn Outbox> {
    fn from(outbox: PostgresOutbox) -> Self {
        Arc::new(outbox)
    }
}

impl fmt::Debug for PostgresOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOutbox")
            .field("name", &self.name)
            .field("server", &self.inner.link.server)
            .field("schema", &self.inner.link.schema.name())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_fits_the_longest_schema() {
        assert_eq!(channel("asynqueue"), "outbox:asynqueue");
        let long = channel(&"ü".repeat(31));
        assert_eq!((long.len(), long.chars().count()), (63, 35));
    }
}
