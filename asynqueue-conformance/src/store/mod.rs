//! Requirements of stores below the traits for callers: documents, edits, imports, points and ticks, as in [`Store`].
//!
//! A store's crate runs it beside the [suite](crate::suite), with one more line:
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use asynqueue_conformance::{store::StoreHarness, suite::Harness};
//! use asynqueue_core::{broker::{SharedBroker, Store}, memory::MemoryBroker, testing::TestClock};
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
pub mod import;
pub mod points;
pub mod ticks;

/// Creates a store for one test.
#[async_trait]
pub trait StoreHarness: Harness {
    /// An empty store. Called once by each test.
    async fn store(&self) -> Arc<dyn Store>;
}

/// Runs the [store tests](crate::store). Takes an expression that creates a
/// [`StoreHarness`](crate::store::StoreHarness). The calling crate needs `tokio` with its macros.
#[macro_export]
macro_rules! store_suite {
    ($harness:expr) => {
        $crate::__conformance_tests! { store; $harness;
            documents: [
                a_document_is_stored_unchanged,
                documents_are_listed_by_name_and_space,
                names_of_any_text_do_not_collide,
                each_content_has_a_unique_version,
                a_change_requires_the_expected_version,
                a_set_is_all_or_nothing,
                sets_are_made_in_order,
                documents_to_keep_are_returned_whether_or_not_the_set_is_made,
                a_removed_document_is_gone,
                racing_changes_of_a_document_are_all_kept,
                racing_sets_over_several_documents_are_all_or_nothing,
                a_large_number_of_sets_is_applied,
                a_large_document_is_stored,
                a_closed_store_has_no_documents,
            ],
            due: [
                documents_are_due_at_their_time_earliest_first,
                at_most_limit_documents_are_returned,
                a_document_that_is_put_again_is_due_at_its_new_time,
                a_document_without_a_time_is_never_due,
            ],
            edits: [
                a_version_depends_on_the_state_and_the_envelope,
                a_task_is_edited_only_if_it_is_unchanged,
                edits_return_results_as_if_made_in_order,
                a_change_is_refused_in_the_wrong_state,
                a_missing_task_counts_as_changed,
                a_task_leaves_the_archive_only_if_its_lock_is_free,
                a_task_releases_the_lock_that_its_new_envelope_names,
                a_put_without_a_change_moves_the_task,
                one_of_racing_edits_of_a_task_is_made,
                an_empty_edit_has_an_empty_result,
            ],
            import: [
                each_state_arrives_exactly,
                pending_tasks_are_leased_in_their_order_behind_the_others,
                due_tasks_are_forwarded_and_not_before,
                finished_tasks_are_trimmed_at_their_time,
                members_of_a_group_are_due_by_its_limits,
                members_of_a_group_that_are_apart_stay_apart,
                a_task_with_a_taken_id_is_left_alone,
                a_stored_task_is_replaced_only_if_it_is_as_it_was_read,
                a_replaced_task_moves_behind_the_pending_ones,
                a_task_takes_its_lock_if_it_is_free,
                a_task_does_not_take_a_lock_that_it_has_released,
                a_window_continues_with_its_task,
                importing_counts_no_attempt,
                a_pending_and_a_due_task_are_signalled,
                a_stored_task_that_is_replaced_by_a_finished_one_ends,
                one_of_racing_imports_of_an_id_is_stored,
                a_large_batch_arrives_completely_and_in_order,
                statistics_are_added_once,
                asking_for_an_id_does_not_remember_it,
                statistics_do_not_replace_those_of_the_store,
                statistics_are_forgotten_with_their_queue,
            ],
            points: [
                figures_of_one_key_and_time_are_added_up,
                points_are_returned_by_time_group_and_key,
                only_points_of_the_requested_time_and_key_are_returned,
                names_of_points_of_any_text_do_not_collide,
                keys_beyond_the_maximum_of_a_group_are_added_to_the_rest,
                points_that_are_no_longer_kept_are_gone,
                racing_figures_are_all_added,
                a_large_call_of_points_is_added,
                large_figures_are_exact,
                a_closed_store_has_no_points,
            ],
            ticks: [
                the_task_of_a_tick_is_accepted_once,
                a_fired_tick_is_refused_before_other_conflicts,
                a_refused_task_leaves_its_tick_open,
                guards_and_queues_do_not_mix,
                an_earlier_tick_is_refused,
                a_last_tick_far_in_the_future_is_ignored,
                a_forgotten_tick_is_accepted_again,
                one_of_racing_tasks_of_a_tick_is_accepted,
            ],
        }
    };
}
