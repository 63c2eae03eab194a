//! Typed background tasks: queues, retries, priorities, delays and results.
//!
//! Derive [`Task`](derive@Task) on a payload, write a [`Process`] for it, and you have a queue:
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
//! | run a whole program, with all that is beside its server | [`App`] |
//! | run them | [`Server`], [`Process`], [`Context`], [`State`] |
//! | say what becomes of a task that failed | [`TaskError`], [`TaskResultExt`] |
//! | put code around them | [`layer`], [`layer::Hook`], [`layer::middleware_fn`] |
//! | publish events to many subscribers | [`Producer::publish`], [`ServerBuilder::subscribe`] |
//! | make one task of many | [`Aggregate`], [`ServerBuilder::aggregate`] |
//! | look into queues and act on tasks | [`Inspector`], [`inspector`] |
//! | export metrics to Prometheus, answer health checks | `metrics` (with the feature `metrics`) |
//! | see what is going on, and act on it | `Monitor` (with the feature `monitor`) |
//! | follow a task in one trace | the feature `otel`, and the book's chapter on traces |
//! | enqueue tasks by the clock | `scheduler` (with the feature `scheduler`) |
//! | read settings from a file | `config` (with the feature `config`) |
//! | test your own processes | `testing` (with the feature `testing`) |
//! | keep tasks in Redis | `redis` (with the feature `redis`) |
//! | write a broker | [`broker`] |

pub mod app;
mod connect;
#[cfg(feature = "config")]
mod from_config;

#[doc(inline)]
pub use app::App;
pub use asynqueue_core::*;
#[doc(inline)]
pub use asynqueue_macros::{FromState, Task};
#[cfg(feature = "redis")]
#[doc(inline)]
pub use asynqueue_redis as redis;
pub use connect::{ConnectError, connect};

#[cfg(feature = "monitor")]
#[doc(inline)]
pub use asynqueue_monitor::{Endpoint, Monitor, Role, ServeError, User};

/// Settings from a file and the environment.
#[cfg(feature = "config")]
pub mod config {
    pub use crate::from_config::FromConfig;
    pub use asynqueue_core::config::*;
}

#[cfg(feature = "metrics")]
pub mod metrics {
    #![doc = include_str!("metrics.md")]
    pub use asynqueue_core::metrics::*;
    pub use asynqueue_monitor::metrics::*;
}

/// What most programs need, in one `use`.
pub mod prelude {
    #[cfg(feature = "config")]
    pub use crate::config::FromConfig as _;
    pub use async_trait::async_trait;
    #[cfg(feature = "scheduler")]
    pub use asynqueue_core::scheduler::{Entry, Scheduler};
    pub use asynqueue_core::{
        Aggregate, Backoff, Context, FromState, Inspector, Payload, Process, ProcessWrapper,
        Producer, Server, State, Task, TaskError, TaskHandle, TaskResultExt,
        layer::{Archived, BoxError, Hook, middleware_fn},
        shutdown_signal,
    };
    pub use asynqueue_macros::{FromState, Task};
    pub use serde::{Deserialize, Serialize};
    pub use std::time::Duration;

    /// So many seconds.
    pub const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
}

/// The README's code compiles and runs.
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
        processes = "guide/processes.md";
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
        layers = "guide/layers.md";
        #[cfg(feature = "testing")]
        testing = "guide/testing.md";
        #[cfg(feature = "config")]
        config = "operations/config.md";
        #[cfg(feature = "redis")]
        redis = "operations/redis.md";
        #[cfg(feature = "metrics")]
        metrics = "operations/metrics.md";
        traces = "operations/traces.md";
        deploying = "operations/deploying.md";
        #[cfg(feature = "monitor")]
        monitor = "operations/monitor.md";
    }
}
