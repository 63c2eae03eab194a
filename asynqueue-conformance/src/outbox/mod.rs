//! Requirements of an [`Outbox`]: what a database must do for a [`Relay`](asynqueue_core::outbox::Relay).
//!
//! ```
//! use std::sync::{Arc, OnceLock};
//!
//! use asynqueue_conformance::outbox::{ListOutbox, OutboxHarness};
//! use asynqueue_core::{broker::NewTask, outbox::Outbox};
//!
//! #[derive(Default)]
//! struct InMemory(OnceLock<ListOutbox>);
//!
//! #[async_trait::async_trait]
//! impl OutboxHarness for InMemory {
//!     async fn outbox(&self) -> Arc<dyn Outbox> {
//!         self.0.get_or_init(ListOutbox::default).clone().into()
//!     }
//!
//!     async fn commit(&self, tasks: Vec<NewTask>) {
//!         self.0.get().expect("it is open").commit(tasks);
//!     }
//! }
//!
//! asynqueue_conformance::outbox_suite!(InMemory::default());
//! # fn main() {}
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "these are tests"
)]

mod list;
pub mod suite;

use std::sync::Arc;

use async_trait::async_trait;
use asynqueue_core::{broker::NewTask, outbox::Outbox};

pub use self::list::ListOutbox;

/// Creates an outbox for one test.
#[async_trait]
pub trait OutboxHarness: Send + Sync {
    /// A handle of the outbox, which is empty when a test starts. Each call is like one of another process.
    async fn outbox(&self) -> Arc<dyn Outbox>;

    /// Writes tasks in one transaction of the application, and commits it.
    async fn commit(&self, tasks: Vec<NewTask>);
}

/// Runs the [outbox tests](crate::outbox). Takes an expression that creates an
/// [`OutboxHarness`](crate::outbox::OutboxHarness). The calling crate needs `tokio` with its macros.
#[macro_export]
macro_rules! outbox_suite {
    ($harness:expr) => {
        $crate::__outbox_tests! { $harness;
            entries_are_taken_in_the_order_of_their_commits,
            a_number_grows_with_each_entry_and_never_changes,
            entries_of_excepted_queues_are_left,
            at_most_the_limit_is_taken,
            about_the_bytes_requested_are_taken_and_at_least_one_entry,
            a_task_is_stored_with_everything,
            one_relay_has_the_turn,
            a_turn_that_was_left_is_free,
            a_turn_ends_after_its_time,
            outcomes_are_recorded_after_the_time_of_the_turn_unless_another_relay_has_it,
            a_removed_entry_is_gone,
            a_failed_entry_is_kept_with_its_reason,
            a_retried_entry_gets_a_new_number_behind_the_others,
            a_waiting_entry_is_neither_retried_nor_deleted,
            failed_entries_are_listed_a_page_at_a_time,
            the_size_counts_waiting_and_failed_entries,
        }
    };
}

/// Generates one test for each name. Used by [`outbox_suite!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __outbox_tests {
    ($harness:expr; $($test:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            $crate::outbox::suite::$test(&$harness).await;
        })*
    };
}
