//! Requirements of a store whose handlers record their outcomes in transactions of the application, with
//! `complete_in`.
//!
//! A store's test binary implements [`TransactionHarness`] and runs
//! [`transactions_suite!`](crate::transactions_suite) on it. [`error_of_completion`] is for the store's own tests of
//! transactions that it refuses.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "these are tests"
)]

mod bank;
pub mod suite;

use std::error::Error;

use async_trait::async_trait;
use asynqueue_core::{
    broker::{Leased, SharedBroker},
    process::Context,
};

pub use self::bank::{Credit, error_of_completion};

/// A store for one test, and a table of the application in the same database: one row for each account.
#[async_trait]
pub trait TransactionHarness: Send + Sync + 'static {
    /// A handle of the store, which is empty when a test starts. Each call is like one of another process, if the store
    /// can be shared by processes.
    async fn broker(&self) -> SharedBroker;

    /// In a handler: starts a transaction, adds an account with these cents, and calls `complete_in` twice with this
    /// output. Commits the transaction if `commits`, and otherwise drops it.
    ///
    /// # Errors
    ///
    /// When the first call of `complete_in` fails, with its error, or another statement. The transaction is dropped.
    async fn complete(
        &self,
        ctx: &Context,
        cents: u64,
        output: u64,
        commits: bool,
    ) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// The number of accounts, and all their cents.
    async fn credited(&self) -> (u64, u64);

    /// How many notes the store keeps about tasks whose server has not reported their end.
    async fn notes(&self) -> u64;

    /// How many waiters for the ends of tasks the store has.
    async fn waiters(&self) -> u64;

    /// Gives the one leased task to another worker, as if its server had been cut off.
    async fn take_lease(&self);

    /// Completes the one leased task as `complete_in` does, and commits that.
    async fn complete_by_hand(&self, leased: &Leased);
}

/// Runs the [tests of outcomes in transactions](crate::transactions). Takes an expression that creates a
/// [`TransactionHarness`](crate::transactions::TransactionHarness), and may await. The calling crate needs `tokio` with
/// its macros.
#[macro_export]
macro_rules! transactions_suite {
    ($harness:expr) => {
        $crate::__transactions_tests! { $harness;
            an_outcome_is_committed_with_what_the_handler_has_written,
            the_result_of_a_task_that_is_not_kept_survives_a_later_error,
            nothing_is_recorded_once_the_lease_is_lost,
            a_completed_task_belongs_to_its_server_until_that_reports_it,
            an_attempt_that_does_not_commit_has_failed,
            a_server_counts_an_attempt_that_does_not_commit_as_a_failure,
        }

        // The log is that of one thread.
        #[tokio::test]
        async fn an_error_after_the_commit_is_logged_and_the_task_counts_as_completed() {
            $crate::transactions::suite::an_error_after_the_commit_is_logged_and_the_task_counts_as_completed(::std::sync::Arc::new($harness))
                .await;
        }
    };
}

/// Generates one test for each name. Used by [`transactions_suite!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __transactions_tests {
    ($harness:expr; $($test:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            $crate::transactions::suite::$test(::std::sync::Arc::new($harness)).await;
        })*
    };
}
