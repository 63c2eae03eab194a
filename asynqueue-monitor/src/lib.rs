//! Tools for operators: Prometheus metrics, liveness and readiness endpoints, and the web monitor.
//!
//! Applications depend on the `asynqueue` crate, which re-exports this crate as `asynqueue::metrics` and
//! `asynqueue::monitor` behind the features of the same names.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod connections;
mod endpoint;
#[cfg(any(feature = "metrics", feature = "web"))]
mod health;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "web")]
mod web;

pub use endpoint::{Endpoint, ServeError};
#[cfg(feature = "web")]
pub use web::{Monitor, Monitors, Role, User};

/// The code of the README, as tests.
#[cfg(all(doctest, feature = "web"))]
#[doc = include_str!("../README.md")]
struct Readme;
