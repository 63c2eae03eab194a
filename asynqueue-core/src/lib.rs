//! The framework of asynqueue: tasks and their processes, producer, server and the traits that brokers implement.
//!
//! Users depend on the `asynqueue` crate, which brings this one together with a broker and the derive.
//!
//! Each name has one address, in its module: `asynqueue_core::task::TaskId`.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod ambient;
pub mod broker;
pub mod codec;
#[cfg(feature = "config")]
pub mod config;
#[doc(hidden)]
pub mod duration;
mod error_text;
pub mod inspector;
pub mod layer;
pub mod memory;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "metrics/off.rs"]
mod metrics;
pub mod process;
pub mod producer;
pub mod publish;
pub mod registry;
#[cfg(feature = "scheduler")]
pub mod scheduler;
pub mod server;
mod suggest;
mod sync;
pub mod task;
#[cfg(feature = "testing")]
pub mod testing;
mod trace;

/// What the derives' code and macros name.
#[doc(hidden)]
pub mod __private {
    pub use crate::{error_text::with_causes, process::checked};
    pub use inventory;
}

/// The code of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
