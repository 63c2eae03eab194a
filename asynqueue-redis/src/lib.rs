//! The Redis broker of asynqueue: one server, Sentinels or a Cluster, with or without TLS.
//!
//! Programs get it by `asynqueue::connect("redis://…")` with the feature `redis`. By hand:
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
//! - Each queue has a fixed set of keys in one hash slot ([`aq:{queue}:…`](RedisOptions::prefix)). Each change is one Lua
//!   script, which is given every key that it touches and makes up none.
//! - A script takes up to five hundred tasks, with a number of Redis commands that does not depend on how many.
//!   [`enqueue`](asynqueue_core::broker::Broker::enqueue) calls at the same time go out together.
//! - The active tasks and their leases are one sorted set, whose members begin with the lease's token: the two can't
//!   disagree, and an outcome under an old token finds nothing.
//! - Changes are numbered, in lanes: Redis keeps the last number and answer of each. So a call whose answer was lost is
//!   sent again, and is not carried out twice.
//! - Servers, subscribers and schedule entries are small documents in one more slot. One script changes any number of them in one
//!   step, each only while it has the version that was read.
//! - What becomes pending in an empty queue is published, so that an idle server starts it at once; a poll each second makes
//!   up for notifications that are lost.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod broker;
mod keys;
mod lanes;
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
