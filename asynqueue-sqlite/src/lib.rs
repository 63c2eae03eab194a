//! The SQLite broker of asynqueue: tasks in a file, without a server.
//!
//! Programs create it with `asynqueue::connect("sqlite://tasks.db")` and the feature `sqlite`, or directly:
//!
//! ```no_run
//! use asynqueue_sqlite::{SqliteBroker, SqliteOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = SqliteBroker::connect(SqliteOptions::new("sqlite://tasks.db")?).await?;
//! # let _ = asynqueue_core::producer::Producer::new(broker);
//! # Ok(()) }
//! ```
//!
//! # How it works
//!
//! - One thread writes. All changes that wait become one transaction, and so one write to the disk. Other threads read,
//!   and wait for nobody.
//! - On its way, a task is written once and deleted once. A lease moves a small row from the table of pending tasks to
//!   the table of leases.
//! - Several processes can use one file. They wake each other by sockets in the folder `tasks.db-live`.
//! - The tables may be in the application's own database. A task can then be enqueued, and completed, in a transaction
//!   of the application: see [`SqliteBroker::enqueue_in`].
//! - If the tasks are on another broker, such as Redis, the application's database has an outbox for them: see
//!   [`SqliteOutbox`].

#![cfg_attr(docsrs, feature(doc_cfg))]

mod broker;
mod change;
mod link;
mod options;
mod outbox;
#[cfg(test)]
mod plans;
mod promised;
mod schema;
mod sql;
mod transaction;
#[cfg(feature = "sqlx")]
mod with_sqlx;

pub use self::{
    broker::SqliteBroker,
    link::ConnectError,
    options::{OptionsError, SqliteDurability, SqliteOptions},
    outbox::SqliteOutbox,
    transaction::{CompleteError, CompleteIn},
};

#[cfg(feature = "sqlx")]
pub use self::with_sqlx::CompleteInSqlx;

/// The code of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
