//! The broker. `store.rs` implements its trait; each method has its own file.

mod apart;
mod control;
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

use std::{fmt, sync::Arc};

use asynqueue_core::broker::{SharedBroker, Unreadable};

use crate::{ConnectError, SqliteOptions, link::Link};

/// Stores tasks in a SQLite database. Clones share its connections.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use asynqueue_core::broker::Inspect;
/// use asynqueue_sqlite::{SqliteBroker, SqliteOptions};
///
/// let broker = SqliteBroker::connect(SqliteOptions::memory()).await?;
/// assert!(broker.queues().await?.is_empty());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SqliteBroker(Arc<Inner>);

struct Inner {
    link: Link,
    unreadable: Unreadable,
}

impl SqliteBroker {
    /// Opens a database, which is created if it does not exist, and brings its tables to the version of this library.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened or written, or when a later version has changed its tables.
    pub async fn connect(options: SqliteOptions) -> Result<Self, ConnectError> {
        // A thread of its own: opening waits for the disk, and the runtime of the caller may have one thread.
        let (opened, opening) = tokio::sync::oneshot::channel();
        let open = move || {
            // Fails if the caller has stopped waiting.
            let _ = opened.send(Link::open(&options));
        };
        std::thread::Builder::new()
            .name("asynqueue-open".into())
            .spawn(open)
            .map_err(ConnectError::Thread)?;
        let link = opening.await.map_err(|_| {
            ConnectError::Thread(std::io::Error::other(
                "the thread that opens the database has ended",
            ))
        })??;
        Ok(Self(Arc::new(Inner {
            link,
            unreadable: Unreadable::default(),
        })))
    }

    pub(crate) fn link(&self) -> &Link {
        &self.0.link
    }
}

impl fmt::Debug for SqliteBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteBroker")
            .field(&self.link().file.name())
            .finish()
    }
}

impl From<SqliteBroker> for SharedBroker {
    fn from(broker: SqliteBroker) -> Self {
        Arc::new(broker)
    }
}
