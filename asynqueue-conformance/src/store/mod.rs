//! What every store owes below the callers' traits: documents, edits and ticks, as [`Store`] has them.
//!
//! A store's crate runs it beside the [suite](crate::suite), with one line more:
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use asynqueue_conformance::{store::StoreHarness, suite::Harness};
//! use asynqueue_core::{
//!     broker::{SharedBroker, Store},
//!     memory::MemoryBroker,
//!     testing::TestClock,
//! };
//!
//! #[derive(Default)]
//! struct InMemory {
//!     clock: TestClock,
//! }
//!
//! #[async_trait::async_trait]
//! impl Harness for InMemory {
//!     async fn broker(&self) -> SharedBroker {
//!         MemoryBroker::with_clock(self.clock.clone()).into()
//!     }
//!
//!     async fn advance(&self, by: Duration) {
//!         self.clock.advance(by);
//!     }
//! }
//!
//! #[async_trait::async_trait]
//! impl StoreHarness for InMemory {
//!     async fn store(&self) -> Arc<dyn Store> {
//!         Arc::new(MemoryBroker::with_clock(self.clock.clone()))
//!     }
//! }
//!
//! asynqueue_conformance::store_suite!(InMemory::default());
//! # fn main() {}
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "these are tests"
)]

use std::sync::Arc;

use async_trait::async_trait;
use asynqueue_core::broker::Store;

use crate::suite::Harness;

pub mod documents;
pub mod due;
pub mod edits;
pub mod ticks;

/// Makes a store for one test.
#[async_trait]
pub trait StoreHarness: Harness {
    /// An empty store. Called once by each test.
    async fn store(&self) -> Arc<dyn Store>;
}

/// Runs the [tests of stores](crate::store). Takes an expression that makes a
/// [`StoreHarness`](crate::store::StoreHarness); the calling crate needs `tokio` with its macros.
#[macro_export]
macro_rules! store_suite {
    ($harness:expr) => {
        $crate::__conformance_tests! { store; $harness;
            documents: [
                a_document_is_as_it_was_put,
                documents_are_listed_by_name_each_space_by_itself,
                names_of_any_text_are_kept_apart,
                each_content_has_a_version_of_its_own,
                a_change_is_made_only_to_what_it_expects,
                a_set_is_made_whole_or_not_at_all,
                sets_are_made_one_after_the_other,
                what_is_to_stay_is_returned_whether_or_not_the_set_is_made,
                a_removed_document_is_gone,
                racing_changes_of_a_document_all_hold,
                racing_sets_over_several_documents_are_each_whole,
                a_large_number_of_sets_is_made,
                a_large_document_is_kept,
                a_closed_store_has_no_documents,
            ],
            due: [
                documents_are_due_at_their_time_earliest_first,
                at_most_limit_documents_are_found,
                a_document_that_is_put_again_is_due_at_its_new_time,
                a_document_without_a_time_is_never_due,
            ],
            edits: [
                a_version_is_of_the_state_and_the_envelope,
                a_task_is_edited_only_as_it_was_seen,
                edits_are_answered_as_if_made_one_after_the_other,
                a_change_is_refused_in_a_state_that_it_is_not_for,
                a_task_that_is_gone_has_changed,
                a_task_leaves_the_archive_only_with_its_lock,
                a_put_of_what_was_seen_moves_the_task,
                of_racing_edits_of_a_task_one_is_made,
                nothing_edited_is_nothing_answered,
            ],
            ticks: [
                the_task_of_a_tick_is_taken_once,
                a_tick_that_was_fired_is_refused_before_all_else,
                a_task_that_is_refused_leaves_its_tick_open,
                guards_and_queues_are_kept_apart,
                an_earlier_tick_is_refused,
                a_last_tick_far_ahead_is_ignored,
                a_tick_that_is_forgotten_is_taken_again,
                of_racing_tasks_of_a_tick_one_is_taken,
            ],
        }
    };
}
