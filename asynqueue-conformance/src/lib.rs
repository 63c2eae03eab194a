//! The tests that every asynqueue broker passes, for authors of brokers.
//!
//! - [`suite`] has a test for each behaviour. [`conformance_suite!`] runs them all on a broker.
//! - [`store`] has the tests of stores below the traits for callers. [`store_suite!`] runs them.
//! - [`outbox`] has the tests of outboxes. [`outbox_suite!`] runs them.
//! - [`processes`] has the tests of stores that several processes share. [`processes_suite!`] runs them.
//! - [`transactions`] has the tests of outcomes in transactions of handlers. [`transactions_suite!`] runs them.
//! - [`property`] applies random operations, and compares the broker with a model or with another broker.
//! - [`history`] runs concurrent clients on a store during faults, and searches for an order of their calls.
//! - [`chaos`] runs processes on a shared store, kills them, breaks the store, and checks what they have recorded.
//! - [`calls`] has small tasks and short calls of a store, and [`child`] starts other processes, for more tests.
//!
//! Suites and properties require a broker clock that a test can move, such as
//! [`TestClock`](asynqueue_core::testing::TestClock). Add this crate to `[dev-dependencies]`.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod calls;
pub mod chaos;
pub mod child;
pub mod history;
pub mod outbox;
pub mod processes;
pub mod property;
pub mod store;
pub mod suite;
pub mod transactions;

/// Returns the value with some of its fields changed.
pub(crate) fn changed<T>(mut value: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut value);
    value
}
