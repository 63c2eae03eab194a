//! The tests that every broker of asynqueue passes, for those who write one.
//!
//! - [`suite`] has a test for each behaviour. [`conformance_suite!`] runs them all on a broker.
//! - [`store`] has the tests of what a store owes below the callers' traits. [`store_suite!`] runs them.
//! - [`property`] applies random operations, and compares the broker with a model or with another broker.
//! - [`history`] lets clients call a store at the same time, while faults strike, and searches an order of their calls.
//!
//! Suites and properties need the broker's clock to be one that a test can move, such as
//! [`TestClock`](asynqueue_core::testing::TestClock). Put this crate under `[dev-dependencies]`.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod history;
pub mod property;
pub mod store;
pub mod suite;

/// A value, with some of its fields changed.
pub(crate) fn changed<T>(mut value: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut value);
    value
}
