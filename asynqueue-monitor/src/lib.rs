//! What operators look at: metrics for Prometheus, whether a process lives and is ready, and the web monitor.
//!
//! Users depend on the `asynqueue` crate, which has this as `asynqueue::metrics` and `asynqueue::monitor`, with the features of
//! these names.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod endpoint;
#[cfg(feature = "metrics")]
mod health;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "web")]
mod web;

pub use endpoint::{Endpoint, ServeError};
#[cfg(feature = "web")]
pub use web::{Monitor, Role, User};

/// The code of the README, as tests.
#[cfg(all(doctest, feature = "web"))]
#[doc = include_str!("../README.md")]
struct Readme;
