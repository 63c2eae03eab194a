//! The behaviours that every broker must have, each as a test: the specification of the [broker
//! traits](asynqueue_core::broker).
//!
//! A broker's crate runs all of them with one line, and `cargo test` lists each behaviour by name:
//!
//! ```
//! use std::time::Duration;
//!
//! use asynqueue_conformance::suite::Harness;
//! use asynqueue_core::{broker::SharedBroker, memory::MemoryBroker, testing::TestClock};
//!
//! /// An empty broker whose clock a test can move.
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
//! asynqueue_conformance::conformance_suite!(InMemory::default());
//! # fn main() {}
//! ```
//!
//! A store without a feature reports that in [`Harness::offers`]. The tests of that feature are then skipped.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "these are tests"
)]

use std::time::Duration;

use async_trait::async_trait;

use asynqueue_core::broker::SharedBroker;

pub mod atomicity;
pub mod audit;
pub mod cancel;
pub mod control;
pub mod declared;
pub mod enqueue;
pub mod extend;
pub mod failing_groups;
pub(crate) mod fixture;
pub mod fleet;
pub mod forward;
pub mod groups;
pub mod inspect;
pub mod inspector;
pub mod large;
pub mod last_pages;
pub mod late;
pub mod lease;
pub mod lifecycle;
pub mod parts;
pub mod pauses;
pub mod reclaim;
pub mod replace;
pub mod retention;
pub mod scheduler;
pub mod schedules;
pub mod settle;
pub mod signals;
pub mod statistics;
pub mod swaps;
pub mod unique;
pub mod wait;

/// Creates a broker for one test.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A handle to an empty broker. Called once by each test.
    async fn broker(&self) -> SharedBroker;

    /// Advances the broker's clock.
    async fn advance(&self, by: Duration);

    /// Whether the store offers the feature that a test is about. `concern` is the test's module, such as `groups`, and
    /// `test` its name. A test of a missing feature is skipped: it passes, and its output says so. By default,
    /// everything is offered.
    fn offers(&self, concern: &str, test: &str) -> bool {
        let _ = (concern, test);
        true
    }
}

/// Runs a test, unless it is about a feature that the store does not offer. A test that takes far longer than any
/// broker should fails instead of hanging.
#[doc(hidden)]
pub async fn run(harness: &dyn Harness, concern: &str, name: &str, test: impl Future<Output = ()>) {
    if !harness.offers(concern, name) {
        eprintln!("skipped: the store does not offer the feature of `{concern}::{name}`");
        return;
    }
    tokio::time::timeout(Duration::from_secs(60), test)
        .await
        .expect("the test must end in time");
}

/// Runs the [conformance suite](crate::suite) on a broker. Takes an expression that creates a
/// [`Harness`](crate::suite::Harness). The calling crate needs `tokio` with its macros.
#[macro_export]
macro_rules! conformance_suite {
    ($harness:expr) => {
        $crate::__conformance_tests! { suite; $harness;
            enqueue: [
                accepted_tasks_are_pending_in_order,
                a_duplicate_id_is_refused_with_the_state_of_its_task,
                the_same_id_twice_in_a_batch_is_accepted_once,
                the_same_id_may_be_used_in_two_queues,
                a_refused_task_does_not_prevent_the_others,
                an_empty_batch_is_accepted,
                a_batch_larger_than_a_chunk_is_accepted_completely,
                a_delayed_task_is_scheduled_by_the_brokers_clock,
                a_time_is_stored_to_the_millisecond,
                a_time_that_has_passed_means_now,
                everything_in_the_envelope_is_stored,
                valid_ids_and_queue_names_do_not_collide,
                a_task_may_be_due_in_a_hundred_years,
                an_unavailable_durability_is_an_error,
            ],
            lease: [
                tasks_are_leased_first_in_first_out,
                a_higher_priority_goes_first,
                at_most_max_tasks_are_leased,
                each_queue_returns_at_most_its_cap_in_the_requested_order,
                a_leased_task_is_active_and_is_not_leased_again,
                every_lease_has_a_unique_token,
                a_lease_reports_since_when_its_task_was_pending,
                a_paused_queue_returns_nothing,
                an_unknown_queue_returns_nothing,
                a_lease_contains_the_brokers_time,
                a_lease_lasts_for_the_requested_time,
                only_pending_tasks_are_leased,
                a_paused_queue_does_not_delay_the_others,
            ],
            extend: [
                an_extended_lease_does_not_expire,
                a_settled_lease_is_lost,
                a_lease_that_another_worker_took_over_is_lost,
                an_expired_lease_that_was_not_reclaimed_can_be_extended,
                an_extension_counts_from_now,
                an_extended_lease_keeps_its_worker_and_progress,
                extensions_return_results_in_order_over_several_queues,
            ],
            settle: [
                a_completed_task_without_retention_is_gone,
                a_failed_task_waits_for_its_retry_with_its_failures,
                a_retry_without_delay_is_pending_immediately,
                a_snoozed_task_is_scheduled_and_has_not_failed,
                a_snoozed_task_keeps_the_note_of_its_server,
                outcomes_of_one_task_in_a_batch_end_only_their_own_leases,
                a_released_task_returns_to_the_front_unchanged,
                released_tasks_keep_their_priority,
                an_archived_task_is_kept_with_its_reason,
                a_revoked_task_is_gone,
                an_outcome_counts_once,
                an_outcome_under_an_old_token_is_refused,
                an_outcome_for_an_unknown_task_is_refused,
                an_expired_lease_that_was_not_reclaimed_can_be_settled,
                a_batch_returns_results_in_order_over_several_queues,
                the_envelope_of_the_outcome_is_stored,
                a_snooze_without_delay_is_pending_immediately,
                the_last_task_released_in_a_batch_goes_first,
                each_outcome_is_counted_correctly,
            ],
            forward: [
                a_task_never_becomes_due_early,
                due_tasks_become_pending_by_due_time,
                at_most_limit_tasks_are_forwarded,
                scheduled_tasks_and_retries_are_forwarded_by_due_time,
                the_next_due_time_is_reported,
                a_forwarded_task_keeps_its_priority,
                due_tasks_of_a_paused_queue_become_pending,
                due_tasks_of_the_requested_queues_are_forwarded,
                a_forwarded_retry_keeps_its_history,
            ],
            reclaim: [
                an_expired_lease_is_listed_with_its_token,
                the_first_of_two_reclaims_wins,
                at_most_limit_lost_leases_are_listed,
                a_reclaimed_task_is_leased_again_and_its_old_worker_is_refused,
                a_reclaimed_attempt_counts_as_lost,
                an_hour_with_only_lost_attempts_is_listed,
                a_lease_that_is_extended_in_time_is_not_reclaimed,
                lost_leases_of_a_paused_queue_are_listed,
                lost_leases_of_the_requested_queues_are_listed,
            ],
            unique: [
                a_duplicate_key_is_refused_and_the_holder_named,
                a_lock_until_start_ends_with_the_lease,
                a_lock_until_success_is_held_through_retries_and_ends_with_completion,
                a_lock_for_a_window_outlives_its_task,
                every_final_state_releases_a_lock_until_success,
                a_lock_ends_with_its_time_to_live,
                a_late_holder_does_not_release_the_lock_of_the_next,
                a_task_with_a_duplicate_id_takes_no_lock,
                an_archived_task_runs_again_only_if_its_lock_is_free,
                no_outcome_of_a_late_holder_releases_the_lock_of_the_next,
                the_first_of_two_in_a_batch_takes_the_key,
                a_key_is_held_in_its_queue,
                a_scheduled_task_holds_its_lock,
                a_lock_until_start_is_not_taken_again_by_a_retry,
                a_lock_until_start_is_taken_again_by_a_task_that_returns_to_its_queue,
                a_task_that_returns_to_its_queue_leaves_its_lock_to_another_holder,
                the_first_of_two_that_return_in_a_batch_takes_the_lock,
                a_lock_until_start_ends_with_a_task_that_never_starts,
                a_lock_until_success_is_held_while_the_task_waits_again,
                a_window_is_held_whatever_the_outcome_of_its_task,
                trimming_keeps_the_locks_of_others,
            ],
            retention: [
                a_completed_task_is_kept_with_its_result_for_its_retention,
                a_completed_task_keeps_its_failures,
                archived_tasks_are_trimmed_by_age,
                archived_tasks_are_trimmed_by_number_oldest_first,
                at_most_limit_tasks_are_trimmed,
                waiting_and_active_tasks_are_never_trimmed,
                the_oldest_archived_tasks_are_trimmed_first,
                the_archive_limit_does_not_affect_completed_tasks,
                each_queue_has_a_separate_archive,
                a_trimmed_tasks_id_is_free_again,
                trimmed_archived_tasks_are_counted,
                an_archive_shows_its_limit_once_it_was_trimmed,
            ],
            cancel: [
                a_waiting_task_is_archived_with_the_reason,
                the_worker_of_an_active_task_is_notified,
                a_cancelled_task_that_fails_is_not_retried,
                a_cancelled_task_that_is_released_is_archived,
                a_cancelled_task_that_is_archived_keeps_the_reason,
                a_cancelled_task_that_completes_anyway_is_completed,
                a_finished_task_cannot_be_cancelled,
                a_cancelled_pending_task_is_not_leased,
                a_cancelled_task_that_is_revoked_is_gone,
                a_cancelled_task_whose_worker_is_lost_is_archived,
                the_first_reason_is_kept,
                a_request_to_cancel_ends_with_the_lease,
                cancelling_a_waiting_task_counts_no_attempt,
                cancellations_return_results_in_order_over_several_queues,
                releasing_a_cancelled_task_counts_no_failure,
            ],
            signals: [
                the_first_pending_task_of_an_empty_queue_is_signalled_once,
                forwarding_releasing_and_running_now_send_signals,
                resuming_a_queue_with_tasks_is_signalled,
                a_task_due_before_all_others_is_signalled,
                signals_of_other_queues_are_not_received,
                retries_and_snoozes_signal_when_they_are_due_first,
                a_task_due_before_the_remaining_ones_is_signalled,
                a_tick_that_fires_is_signalled,
                all_listeners_receive_a_signal,
                a_listener_can_have_several_queues,
                a_queue_with_pending_tasks_is_not_signalled_again,
                resuming_is_signalled_only_if_it_changes_something,
                cancelling_waiting_tasks_is_not_signalled,
            ],
            wait: [
                a_waiter_receives_the_result,
                a_waiter_receives_the_failure,
                all_waiters_receive_the_result,
                a_finished_task_returns_its_result_immediately,
                an_unknown_task_is_gone,
                a_waiter_that_stops_does_no_harm,
                a_waiter_for_a_deleted_task_receives_gone,
                a_waiter_receives_a_result_that_is_not_kept,
                a_waiter_receives_the_cancellation,
                a_waiter_keeps_waiting_through_a_retry,
                a_waiter_for_a_revoked_task_receives_gone,
                closing_the_broker_ends_all_waiting,
                an_archived_task_returns_its_failure_immediately,
                an_archived_task_that_runs_again_can_be_awaited_again,
            ],
            control: [
                a_deleted_task_is_gone_unless_it_is_active,
                waiting_and_archived_tasks_run_now,
                the_times_of_an_expired_task_are_renewed_when_it_is_to_run,
                the_times_of_a_task_that_has_not_expired_stay,
                progress_is_visible_while_the_task_is_active,
                a_paused_queue_still_accepts_tasks,
                a_closed_broker_refuses_everything,
                a_broker_responds_to_a_ping,
                a_deleted_pending_task_is_not_leased,
                a_task_that_is_run_now_keeps_its_priority,
                an_empty_request_has_an_empty_result,
                a_limit_of_zero_takes_nothing,
                the_same_task_twice_in_a_batch_has_two_results,
                the_largest_limit_takes_everything,
            ],
            inspect: [
                a_queue_is_known_once_it_has_had_a_task,
                counts_add_up_through_the_life_of_a_task,
                latency_is_the_age_of_the_next_task,
                an_unknown_queue_is_empty,
                tasks_are_returned_in_the_requested_order,
                waiting_tasks_are_listed_in_the_order_they_will_run,
                finished_tasks_are_listed_newest_first,
                pages_make_up_the_complete_list,
                a_task_shows_the_data_of_its_state,
                each_state_has_a_separate_list,
                queries_for_unknown_names_create_no_queue,
                latency_is_that_of_the_next_task_to_run,
            ],
            last_pages: [
                the_pages_from_the_end_are_the_reverse_of_the_list,
                the_last_page_has_the_tasks_that_run_last,
                leases_do_not_move_the_pages_from_the_end,
                new_tasks_do_not_move_the_pages_from_the_end,
                tasks_that_left_a_queue_are_not_in_its_pages_from_the_end,
            ],
            declared: [
                a_change_of_subscribers_changes_their_mark,
                missing_subscribers_are_restored,
                a_removed_subscriber_is_not_restored,
                the_removal_of_a_subscriber_is_forgotten_after_an_hour,
                an_added_or_removed_entry_changes_the_mark_of_schedules,
                missing_entries_are_restored_and_others_stay,
                a_removed_entry_is_not_restored,
                more_entries_than_fit_into_a_call_are_restored,
            ],
            schedules: [
                an_entry_replaces_one_of_the_same_name,
                a_removed_entry_is_gone,
                a_tick_fires_once_however_many_schedulers_try,
                a_tick_that_is_not_the_next_is_skipped,
                a_tick_whose_task_already_exists_advances_the_entry,
                everything_in_an_entry_is_stored,
                the_last_tick_leaves_the_entry,
                a_tick_of_a_replaced_entry_is_skipped,
                a_tick_whose_unique_lock_is_held_advances_the_entry,
                a_tick_whose_task_is_done_is_not_enqueued_again,
                a_task_that_is_fired_early_waits_for_its_tick,
                only_due_entries_that_are_not_paused_are_listed,
                an_entry_is_due_at_its_tick_and_not_after_it_has_fired,
                a_tick_of_a_paused_entry_is_skipped,
                a_skipped_tick_enqueues_nothing,
                the_outcomes_of_ticks_are_kept_newest_first,
                the_history_of_an_entry_is_bounded,
            ],
            swaps: [
                an_entry_is_changed_only_if_it_is_unchanged,
                racing_changes_of_an_entry_are_all_kept,
                a_removed_entry_does_not_reappear,
                nothing_is_left_of_a_removed_entry,
                a_last_tick_far_in_the_future_is_ignored,
            ],
            replace: [
                a_waiting_task_can_be_replaced,
                active_and_completed_tasks_are_not_replaced,
                a_task_that_has_changed_is_not_replaced,
                a_task_can_be_moved_to_another_state,
                archiving_a_task_ends_it,
                an_expired_task_is_renewed_when_it_is_moved_to_run,
                a_queue_with_tasks_is_not_deleted,
                a_queue_that_is_deleted_by_force_is_gone,
                attempts_are_counted_by_the_hour_of_their_end,
                history_is_kept_for_ninety_days,
                storage_reports_its_nodes_and_memory,
                a_closed_broker_changes_nothing,
            ],
            groups: [
                a_task_to_be_aggregated_waits_in_its_group,
                waiting_groups_can_be_inspected,
                a_group_is_due_after_its_grace_period,
                a_group_is_due_after_its_longest_delay,
                a_group_is_due_at_its_maximum_size,
                the_members_of_a_group_become_one_task,
                the_first_of_two_aggregations_of_a_group_wins,
                a_group_without_one_of_its_members_is_not_aggregated,
                a_member_added_during_aggregation_stays,
                a_group_whose_new_task_is_refused_stays,
                groups_do_not_mix,
                at_most_limit_groups_are_returned,
                a_postponed_group_is_due_later,
                a_member_can_run_now,
                a_deleted_member_is_gone,
                the_locks_of_members_are_released,
                a_waiter_for_a_member_learns_that_it_is_gone,
                members_are_listed_by_group_oldest_first,
                the_pages_of_members_from_the_end_are_the_reverse_of_the_list,
                a_group_due_before_all_others_is_signalled,
            ],
            pauses: [
                a_pause_is_recorded_until_the_queue_is_resumed,
                a_deleted_queue_has_no_record_of_a_pause,
                the_pause_of_a_schedule_entry_is_recorded,
            ],
            parts: [
                members_that_are_set_apart_are_due_separately,
                a_part_that_was_set_apart_becomes_one_task,
                a_part_can_be_set_apart_again,
                a_member_is_set_apart_only_if_it_is_unchanged,
                the_first_of_several_to_set_members_apart_wins,
                a_racing_edit_and_set_apart_are_both_kept,
                members_that_are_set_apart_can_leave_their_part,
            ],
            failing_groups: [
                an_unreadable_member_is_left_to_a_server_that_can_read_it,
                a_member_that_no_server_can_read_is_eventually_archived,
                a_member_that_makes_its_group_fail_is_found_and_archived,
                members_whose_task_conflicts_are_retried,
            ],
            fleet: [
                a_server_is_known_by_its_last_report,
                a_silent_server_is_forgotten,
                a_server_that_leaves_is_forgotten_immediately,
                a_server_receives_the_latest_request_at_each_heartbeat,
                an_unknown_server_receives_no_request,
                subscribers_are_known_by_event,
                subscribing_again_changes_nothing,
                a_removed_subscriber_is_gone,
                racing_subscribers_are_all_added,
            ],
            lifecycle: [
                an_event_reaches_every_subscriber_once,
                a_subscriber_misses_nothing_while_it_is_away,
                a_subscriber_added_later_receives_later_events,
                an_event_that_is_published_again_is_not_delivered_again,
                an_unsubscribed_service_receives_no_more_events,
                a_subscribers_failed_task_can_be_enqueued_again_immediately,
                the_payloads_of_a_group_become_one_task,
                a_group_beyond_its_size_becomes_several_tasks,
                invalid_limits_of_a_group_are_refused,
                a_running_task_is_cancelled_on_any_server,
                an_expired_task_is_not_started,
                the_changes_of_a_task_are_reported,
                every_attempt_of_a_task_is_reported,
                a_server_reports_what_it_runs,
                a_wait_that_starts_with_the_enqueue_never_misses_the_end,
            ],
            late: [
                a_task_that_was_started_in_time_does_not_expire,
                an_expired_task_can_still_run_on_request,
            ],
            inspector: [
                queues_are_shown_with_todays_counts,
                a_task_is_found_by_its_id_in_any_queue,
                a_search_reads_every_task_of_all_queues,
                a_filter_finds_the_matching_tasks,
                the_pages_of_a_filtered_list_make_up_the_complete_list,
                a_retried_task_has_all_its_attempts_left,
                a_task_is_archived_and_run_later,
                a_payload_is_edited_as_json,
                a_task_is_enqueued_again_from_any_state,
                a_task_that_is_enqueued_again_waits_for_the_unique_lock,
                a_task_with_a_window_is_enqueued_again_once_it_has_ended,
                a_task_moves_to_another_queue,
                a_task_that_cannot_move_stays,
                each_action_has_a_result,
                all_matching_tasks_are_changed,
                all_running_tasks_are_cancelled,
                results_are_shown_as_json,
            ],
            audit: [
                changes_are_recorded_newest_first,
                an_edit_keeps_the_old_payload,
                the_audit_is_read_in_pages,
                changes_are_kept_for_ninety_days,
            ],
            statistics: [
                the_attempts_of_each_event_are_counted,
                the_attempts_of_each_queue_are_counted_by_the_minute,
                failures_are_counted_by_cause,
            ],
            scheduler: [
                a_task_is_enqueued_at_each_tick,
                several_schedulers_enqueue_each_tick_once,
                missed_ticks_are_skipped,
                missed_ticks_are_caught_up_once,
                the_last_missed_ticks_are_caught_up,
                entries_can_be_changed_at_run_time,
                racing_changes_at_run_time_are_both_kept,
                a_schedule_continues_when_the_clock_is_corrected,
                an_entry_with_an_unreadable_rule_is_left_to_others,
                an_entry_that_is_put_again_keeps_its_state,
                entries_that_their_owner_no_longer_declares_are_removed,
                hooks_are_called_before_and_after_a_tick,
                a_task_waits_for_its_jitter,
                a_tick_is_not_blocked_by_the_previous_one,
                entries_come_from_a_watched_file,
                an_invalid_file_is_refused,
                invalid_entries_are_refused,
            ],
            large: [
                a_large_batch_of_leases_is_extended,
                a_large_batch_of_outcomes_is_settled,
                a_large_backlog_is_forwarded,
                a_large_fleets_leases_are_reclaimed,
                a_large_number_of_finished_tasks_is_trimmed,
                a_large_batch_is_cancelled,
                progress_of_a_large_batch_is_kept,
                a_large_payload_is_kept,
            ],
            atomicity: [
                every_task_is_settled_once_among_racing_workers,
                a_racing_cancel_and_lease_leave_one_winner,
                racing_enqueues_of_an_id_accept_one,
                racing_outcomes_of_a_lease_record_one,
                racing_enqueues_of_a_key_accept_one,
                racing_forwards_move_each_task_once,
                a_racing_delete_and_lease_leave_one_winner,
                a_late_worker_and_racing_reclaims_leave_one_winner,
                a_moving_task_is_always_in_one_state,
            ],
        }
    };
}

/// The tests of [`conformance_suite`] or [`store_suite`](crate::store_suite), from its list.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ($suite:ident; $harness:expr; $($concern:ident: [$($test:ident),* $(,)?],)*) => {
        $(mod $concern {
            #[allow(unused_imports)]
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let harness = $harness;
                let test = $crate::$suite::$concern::$test(&harness);
                $crate::suite::run(&harness, stringify!($concern), stringify!($test), test).await;
            })*
        })*
    };
}
