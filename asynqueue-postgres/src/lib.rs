//! The PostgreSQL broker of asynqueue: tasks in the application's own database.
//!
//! Programs create it with `asynqueue::connect("postgres://shop@db/shop")` and the feature `postgres`, or directly:
//!
//! ```no_run
//! use asynqueue_postgres::{PostgresBroker, PostgresOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = PostgresBroker::connect(PostgresOptions::new("postgres://shop@db/shop")?).await?;
//! # let _ = asynqueue_core::producer::Producer::new(broker);
//! # Ok(()) }
//! ```
//!
//! # How it works
//!
//! - Every change is one call of a function in the database, so one round trip and one transaction. The functions are in
//!   the folder `src/sql`.
//! - On its way, a task is written once and deleted once. A row of the table of pending tasks stands for up to a hundred
//!   tasks that were enqueued together; a lease takes as many of them as it needs.
//! - Calls that enqueue at the same time are joined into one transaction.
//! - Processes wake each other by notifications, which are sent after the commit and joined. So a transaction of the
//!   application never waits for the lock that PostgreSQL takes for a notification.
//! - If the tasks are on another broker, such as Redis, the application's database has an outbox for them: see
//!   [`PostgresOutbox`].
//! - Statements are not prepared, so that poolers in transaction mode work.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod broker;
mod failed;
mod link;
mod options;
mod outbox;
mod schema;
mod sql;
mod transaction;
#[cfg(feature = "sqlx")]
mod with_sqlx;

pub use self::{
    broker::PostgresBroker,
    link::ConnectError,
    options::{OptionsError, PostgresOptions},
    outbox::PostgresOutbox,
    schema::{migrate, schema_sql},
    transaction::{CompleteError, CompleteIn},
};

#[cfg(feature = "sqlx")]
pub use self::with_sqlx::CompleteInSqlx;

/// The code of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
