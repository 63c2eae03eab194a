//! Typed background tasks: queues, retries, priorities, delays and results.
//!
//! Derive [`Task`](derive@Task) on a payload, write a handler for it, and run both:
//!
//! ```
//! use asynqueue::prelude::*;
//!
//! #[derive(Serialize, Deserialize, Task)]
//! #[task(event = "email:welcome", output = String)]
//! struct Welcome {
//!     name: String,
//! }
//!
//! async fn welcome(task: Payload<Welcome>) -> Result<String, TaskError> {
//!     Ok(format!("Welcome, {}!", task.name))
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), BoxError> {
//!     let broker = asynqueue::connect("memory:").await?;
//!     let server = Server::builder(broker.clone()).process(welcome).start().await?;
//!     let task = Producer::new(broker).enqueue(Welcome { name: "Ada".into() }).await?;
//!     println!("{}", task.result().await?);
//!     Ok(server.shutdown().await?)
//! }
//! ```
//!
//! | to | see |
//! |---|---|
//! | enqueue tasks | [`Producer`], [`Enqueue`], [`TaskHandle`] |
//! | run a complete program: server, scheduler, metrics, monitor | [`App`] |
//! | run tasks | [`Server`], [`Process`], [`Context`], [`State`] |
//! | decide what happens to a failed task | [`TaskError`], [`process::TaskResultExt`] |
//! | run code around handlers | [`layer`], [`layer::Hook`], [`layer::middleware_fn`] |
//! | publish events to many subscribers | [`Producer::publish`], [`ServerBuilder::subscribe`] |
//! | combine many tasks into one | [`task::Aggregate`], [`ServerBuilder::aggregate`] |
//! | inspect queues and act on tasks | [`Inspector`], [`inspector`] |
//! | export metrics to Prometheus, serve health checks | `metrics` (with the feature `metrics-exporter`) |
//! | watch and operate queues in a browser | `Monitor` (with the feature `monitor`) |
//! | follow a task in one trace | the feature `otel`, and the chapter on traces in the book |
//! | enqueue tasks on a schedule | `scheduler` (with the feature `scheduler`) |
//! | read settings from a file | `config` (with the feature `config`) |
//! | test your handlers | `testing` (with the feature `testing`) |
//! | store tasks in PostgreSQL, and enqueue them in your own transactions | `postgres` (with the feature `postgres`) |
//! | store tasks in Redis | `redis` (with the feature `redis`) |
//! | store tasks in a SQLite file, and enqueue them in your own transactions | `sqlite` (with the feature `sqlite`) |
//! | enqueue in a transaction of your database while the queue is on Redis | [`outbox`], [`App::outbox`] |
//! | write a broker | [`broker`] |
//!
//! Every item is in its module: `asynqueue::task::TaskId`, `asynqueue::broker::QueueStats`. The names that most
//! programs need are also at the root.
//!
#![doc = include_str!("features.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod app;
mod connect;
#[cfg(feature = "config")]
mod from_config;

#[doc(inline)]
pub use app::App;

#[cfg(feature = "config")]
#[doc(inline)]
pub use asynqueue_core::config::Config;
#[cfg(feature = "testing")]
#[doc(inline)]
pub use asynqueue_core::testing;
#[doc(inline)]
pub use asynqueue_core::{
    broker,
    broker::BrokerError,
    codec,
    codec::{Codec, Json, MessagePack},
    failure, inspector,
    inspector::Inspector,
    layer, memory,
    memory::MemoryBroker,
    outbox,
    process::{Context, FromState, Payload, Process, State, TaskError},
    producer,
    producer::{Enqueue, EnqueueError, Producer, TaskHandle},
    publish, registry,
    registry::ProcessWrapper,
    server,
    server::{Server, ServerBuilder, ServerError, shutdown_signal},
    statistics,
    task::Task,
    transfer,
};
#[cfg(feature = "scheduler")]
#[doc(inline)]
pub use asynqueue_core::{scheduler, scheduler::Scheduler};
#[doc(inline)]
pub use asynqueue_macros::{FromState, Task, process};
#[cfg(feature = "monitor")]
#[doc(inline)]
pub use asynqueue_monitor::Monitor;
#[cfg(feature = "postgres")]
#[doc(inline)]
pub use asynqueue_postgres as postgres;
#[cfg(feature = "redis")]
#[doc(inline)]
pub use asynqueue_redis as redis;
#[cfg(feature = "sqlite")]
#[doc(inline)]
pub use asynqueue_sqlite as sqlite;
pub use connect::{ConnectError, connect};

/// Items used by the code that derives and macros generate.
#[doc(hidden)]
pub use asynqueue_core::__private;

pub mod task {
    //! Tasks: their types, options, envelopes and states.
    pub use asynqueue_core::task::*;
    pub use asynqueue_macros::Task;
}

pub mod process {
    //! Handlers: the code that users write, the arguments it receives and the errors it returns.
    pub use asynqueue_core::process::*;
    pub use asynqueue_macros::FromState;
}

#[cfg(feature = "config")]
pub mod config {
    //! Settings from a file and the environment.
    pub use crate::from_config::FromConfig;
    pub use asynqueue_core::config::*;
}

#[cfg(feature = "metrics")]
pub mod metrics {
    #![cfg_attr(feature = "metrics-exporter", doc = include_str!("metrics.md"))]
    #![cfg_attr(
        not(feature = "metrics-exporter"),
        doc = "Metrics for the recorder of the [`metrics`](https://docs.rs/metrics) crate."
    )]
    pub use asynqueue_core::metrics::*;
    #[cfg(feature = "metrics-exporter")]
    pub use asynqueue_monitor::metrics::*;
}

#[cfg(feature = "monitor")]
pub mod monitor {
    //! The web monitor: its users and roles, and where it is served.
    pub use asynqueue_monitor::{Endpoint, Monitor, Monitors, Role, ServeError, User};
}

pub mod prelude {
    //! What most programs need, in one `use`: for a payload, for its handler and for `main`.
    //!
    //! Names that you import or define yourself take precedence over the prelude. If yours has the same name as one of
    //! these, such as `anyhow::Context` or `axum::extract::State`, refer to ours by its path:
    //!
    //! ```
    //! use anyhow::Context;
    //! use asynqueue::prelude::*;
    //!
    //! # #[derive(Serialize, Deserialize, Task)]
    //! # #[task(event = "report")]
    //! # struct Report;
    //! async fn report(_: Payload<Report>, ctx: asynqueue::Context) -> anyhow::Result<()> {
    //!     let path = std::env::temp_dir();
    //!     std::fs::read_dir(&path).with_context(|| format!("attempt {}", ctx.attempt()))?;
    //!     Ok(())
    //! }
    //! # ProcessWrapper::new(report);
    //! ```
    //!
    //! Or skip the prelude, and import what you use: `use asynqueue::{Payload, Server, Task};`.
    #[cfg(feature = "config")]
    #[doc(no_inline)]
    pub use crate::config::FromConfig as _;
    #[doc(no_inline)]
    pub use asynqueue_core::{
        layer::BoxError,
        process::{Context, FromState, Payload, Process, State, TaskError, TaskResultExt},
        producer::{Producer, TaskHandle},
        registry::ProcessWrapper,
        server::{Server, shutdown_signal},
        task::Task,
    };
    #[doc(no_inline)]
    pub use asynqueue_macros::{FromState, Task};
    #[doc(no_inline)]
    pub use serde::{Deserialize, Serialize};
}

/// The code of both READMEs, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct PackageReadme;

/// The README of the repository.
#[cfg(all(doctest, feature = "config"))]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The code of the book, as tests.
#[cfg(doctest)]
mod book {
    macro_rules! chapters {
        ($($(#[$attribute:meta])* $name:ident = $path:literal;)*) => { $(
            $(#[$attribute])*
            #[doc = include_str!(concat!("../../docs/src/", $path))]
            mod $name {}
        )* };
    }

    chapters! {
        getting_started = "guide/getting-started.md";
        tasks = "guide/tasks.md";
        handlers = "guide/handlers.md";
        producer = "guide/producer.md";
        server = "guide/server.md";
        errors = "guide/errors.md";
        results = "guide/results.md";
        publish = "guide/publish.md";
        groups = "guide/groups.md";
        #[cfg(feature = "scheduler")]
        scheduler = "guide/scheduler.md";
        inspector = "guide/inspector.md";
        consistency = "guide/consistency.md";
        #[cfg(feature = "sqlite")]
        transactions = "guide/transactions.md";
        #[cfg(feature = "sqlite")]
        outbox = "guide/outbox.md";
        layers = "guide/layers.md";
        #[cfg(feature = "testing")]
        testing = "guide/testing.md";
        #[cfg(feature = "testing")]
        crashes = "guide/crashes.md";
        #[cfg(feature = "config")]
        config = "operations/config.md";
        #[cfg(feature = "postgres")]
        postgres = "operations/postgres.md";
        #[cfg(feature = "redis")]
        redis = "operations/redis.md";
        #[cfg(feature = "redis")]
        redis_durability = "operations/redis-durability.md";
        #[cfg(feature = "sqlite")]
        sqlite = "operations/sqlite.md";
        #[cfg(feature = "metrics-exporter")]
        metrics = "operations/metrics.md";
        moving = "operations/moving.md";
        traces = "operations/traces.md";
        deploying = "operations/deploying.md";
        #[cfg(feature = "monitor")]
        monitor = "operations/monitor.md";
        #[cfg(feature = "webhooks")]
        failures = "operations/failures.md";
        // Its code is held to the store it is taken from by `tests/documents.rs`.
        broker = "architecture/store.md";
        faq = "faq.md";
    }
}
