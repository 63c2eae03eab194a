//! The broker. `store.rs` implements its trait; each method has its own file.

mod control;
mod created;
mod documents;
mod edit;
mod enqueue;
mod groups;
mod import;
mod inspect;
mod lease;
mod list;
mod points;
mod row;
mod settle;
mod store;
mod upkeep;
mod waiters;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU32},
};

use asynqueue_core::broker::{
    BrokerError, Conflict, NewTask, SharedBroker, Unreadable, kit::Coalescer,
};
use parking_lot::RwLock;

use self::{created::Created, settle::Cancelling};
pub(crate) use self::{
    enqueue::{Batch, Refused},
    settle::kept,
};
use crate::{ConnectError, PostgresOptions, link::Link, schema, sql::Call};

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
    /// Those with an id of the caller, which a transaction may have taken.
    named: Arc<Coalescer<NewTask, Result<(), Conflict>>>,
    unreadable: Unreadable,
    created: Created,
    cancelling: Cancelling,
    /// Counts calls that leave a tally.
    tallies: AtomicU32,
    database: String,
    /// Distinguishes its tables from all others.
    identity: RwLock<String>,
}

/// The limit of tasks in one call. Their turns are one block of numbers.
pub(crate) const MAX_CHUNK: usize = 1_000;

/// About how many bytes of payloads are sent in one call, so that it ends in time. A larger task is sent alone.
pub(crate) const MAX_CHUNK_BYTES: usize = 4 * 1024 * 1024;

impl PostgresBroker {
    /// Connects to PostgreSQL, and [brings the tables to the version of this library](PostgresOptions::migrate).
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, the role may not create the tables, or a later version has changed them so
    /// that this one cannot use them.
    pub async fn connect(options: PostgresOptions) -> Result<Self, ConnectError> {
        let identity = schema::BROKER.prepare(&options).await?;
        Ok(Self(Arc::new(Inner {
            link: Link::open(&options, &options.schema)?,
            identity: RwLock::new(identity),
            single: Arc::new(Coalescer::new(MAX_CHUNK)),
            named: Arc::new(Coalescer::new(MAX_CHUNK)),
            unreadable: Unreadable::default(),
            created: Created::default(),
            cancelling: Cancelling::default(),
            tallies: upkeep::first_tally(),
            database: options.database().to_owned(),
        })))
    }

    pub(crate) fn link(&self) -> &Link {
        &self.0.link
    }

    /// Where the tables are, for messages.
    pub(crate) fn place(&self) -> String {
        let (schema, server) = (self.link().schema.name(), &self.link().server);
        format!("schema `{schema}` of `{}` at {server}", self.0.database)
    }

    /// What distinguishes the tables from all others, also from their copies.
    pub(crate) fn identity(&self) -> String {
        self.0.identity.read().clone()
    }

    /// Reads the identity again.
    pub(crate) async fn renewed_identity(&self) -> Result<String, BrokerError> {
        const IDENTITY: &str = concat!("select ", schema::identity!(), " from asynqueue.meta");
        let rows = self.link().call(&Call::new(IDENTITY, [])).await?;
        let row = rows.first();
        let row = row.ok_or_else(|| BrokerError::protocol("the table `meta` is empty"))?;
        let found: String = row.get(0);
        self.0.identity.write().clone_from(&found);
        Ok(found)
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
