//! The framework of asynqueue: tasks and their handlers, producer, server, and the traits that brokers implement.
//!
//! Applications depend on the `asynqueue` crate, which adds a broker and the derives.
//!
//! Each item has one path, in its module: `asynqueue_core::task::TaskId`.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod ambient;
pub mod broker;
pub mod codec;
#[cfg(feature = "config")]
pub mod config;
#[doc(hidden)]
pub mod duration;
mod error_text;
pub mod failure;
pub mod inspector;
pub mod layer;
pub mod memory;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "metrics/off.rs"]
mod metrics;
pub mod outbox;
pub mod process;
pub mod producer;
pub mod publish;
pub mod registry;
#[cfg(feature = "scheduler")]
pub mod scheduler;
pub mod server;
pub mod statistics;
mod suggest;
mod sync;
pub mod task;
#[cfg(feature = "testing")]
pub mod testing;
mod trace;
pub mod transfer;

/// Items used by the code that derives and macros generate.
#[doc(hidden)]
pub mod __private {
    pub use crate::{error_text::with_causes, process::checked};
    pub use inventory;
}

/// The code of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
