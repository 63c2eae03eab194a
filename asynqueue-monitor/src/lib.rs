//! What operators look at: metrics for Prometheus, and whether a process lives and is ready.
//!
//! Users depend on the `asynqueue` crate, which has this as `asynqueue::metrics` with the feature `metrics`.

mod health;
pub mod metrics;
