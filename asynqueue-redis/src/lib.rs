//! The Redis broker of asynqueue: one server, Sentinels or a Cluster, with or without TLS.
//!
//! Programs create it with `asynqueue::connect("redis://…")` and the feature `redis`, or directly:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use asynqueue_redis::{RedisBroker, RedisOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let options = RedisOptions::new("rediss://ada:secret@redis.example:6380/0?ca=ca.pem")?
//!     .prefix("shop")?
//!     .response_timeout(Duration::from_secs(5));
//! let broker = RedisBroker::connect(options).await?;
//! # let _ = asynqueue_core::producer::Producer::new(broker);
//! # Ok(()) }
//! ```
//!
//! # How it works
//!
//! - Each queue has a fixed set of keys in one hash slot ([`aq:{queue}:…`](RedisOptions::prefix)). Each change is one
//!   Lua script. It receives every key that it uses and constructs none.
//! - One script handles up to 500 tasks, with a number of Redis commands that does not depend on the number of tasks.
//!   Concurrent [`enqueue`](asynqueue_core::broker::Broker::enqueue) calls are sent together.
//! - The active tasks and their leases are one sorted set, whose members start with the token of the lease: the two
//!   cannot disagree, and an outcome under an old token finds nothing.
//! - Changes are numbered, in lanes. Redis keeps the last number and response of each lane, so a call whose response
//!   was lost can be sent again and takes effect once.
//! - Servers, subscribers and schedule entries are small documents in one more slot. One script changes any number of
//!   them in one step, each only if it still has the version that was read.
//! - A task that becomes pending in an empty queue is published, so that an idle server starts it immediately. Servers
//!   also poll each second, in case a notification is lost.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod broker;
mod keys;
mod link;
mod meter;
mod options;
mod reply;
mod script;

pub use self::{
    broker::RedisBroker,
    link::ConnectError,
    options::{OptionsError, RedisOptions, RedisPool},
};

/// The code of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
