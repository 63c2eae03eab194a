//! The broker. `store.rs` implements its trait; each method has its own file.

mod control;
mod documents;
mod edit;
mod enqueue;
mod groups;
mod import;
mod inspect;
mod lease;
mod list;
mod row;
mod settle;
mod store;
mod upkeep;
mod waiters;

use std::{fmt, sync::Arc};

use asynqueue_core::broker::{Conflict, NewTask, SharedBroker, Unreadable, kit::Coalescer};

pub(crate) use self::{
    enqueue::{Batch, Refused},
    settle::kept,
};
use crate::{ConnectError, PostgresOptions, link::Link, schema};

/// Stores tasks in PostgreSQL. Clones share its connections.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use asynqueue_core::broker::Inspect;
/// use asynqueue_postgres::{PostgresBroker, PostgresOptions};
///
/// let broker = PostgresBroker::connect(PostgresOptions::new("postgres://shop@db/shop")?).await?;
/// println!("{:?}", broker.queues().await?);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PostgresBroker(Arc<Inner>);

struct Inner {
    link: Link,
    single: Arc<Coalescer<NewTask, Result<(), Conflict>>>,
    unreadable: Unreadable,
    database: String,
}

/// The limit of tasks in one call. Their turns are one block of numbers.
pub(crate) const MAX_CHUNK: usize = 1_000;

impl PostgresBroker {
    /// Connects to PostgreSQL, and [brings the tables to the version of this library](PostgresOptions::migrate).
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, the role may not create the tables, or a later version has changed them so
    /// that this one cannot use them.
    pub async fn connect(options: PostgresOptions) -> Result<Self, ConnectError> {
        schema::BROKER.prepare(&options).await?;
        Ok(Self(Arc::new(Inner {
            link: Link::open(&options, &options.schema)?,
            single: Arc::new(Coalescer::new(MAX_CHUNK)),
            unreadable: Unreadable::default(),
            database: options.config.get_dbname().unwrap_or("postgres").to_owned(),
        })))
    }

    pub(crate) fn link(&self) -> &Link {
        &self.0.link
    }
}

impl fmt::Debug for PostgresBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBroker")
            .field("server", &self.link().server)
            .field("schema", &self.link().schema.name())
            .finish()
    }
}

impl From<PostgresBroker> for SharedBroker {
    fn from(broker: PostgresBroker) -> Self {
        Arc::new(broker)
    }
}
