//! What every broker owes, each behaviour a test: the specification of the [broker traits](asynqueue_core::broker).
//!
//! A broker's crate runs all of it with one line, and `cargo test` lists each behaviour by name:
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
//! A store that does not offer a feature says so in [`Harness::offers`]; the tests of that feature are left out then.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "these are tests"
)]

use std::time::Duration;

use async_trait::async_trait;

use asynqueue_core::broker::SharedBroker;

pub mod atomicity;
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
pub mod late;
pub mod lease;
pub mod lifecycle;
pub mod parts;
pub mod reclaim;
pub mod replace;
pub mod retention;
pub mod scheduler;
pub mod schedules;
pub mod settle;
pub mod signals;
pub mod swaps;
pub mod unique;
pub mod wait;

/// Makes a broker for one test.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A handle on an empty broker. Called once by each test.
    async fn broker(&self) -> SharedBroker;

    /// Moves the broker's clock on.
    async fn advance(&self, by: Duration);

    /// Whether the store offers the feature that a test is about. `concern` is the test's module, such as `groups`, and
    /// `test` its name. A test of a feature that is not offered is left out: it passes, and its output says so. By
    /// default everything is offered.
    fn offers(&self, concern: &str, test: &str) -> bool {
        let _ = (concern, test);
        true
    }
}

/// Runs a test, unless it is about a feature that the store does not offer. One that takes far longer than any broker
/// should fails, rather than hang.
#[doc(hidden)]
pub async fn run(harness: &dyn Harness, concern: &str, name: &str, test: impl Future<Output = ()>) {
    if !harness.offers(concern, name) {
        eprintln!("left out: the store does not offer what `{concern}::{name}` is about");
        return;
    }
    tokio::time::timeout(Duration::from_secs(60), test)
        .await
        .expect("the test comes to an end");
}

/// Runs the [conformance suite](crate::suite) on a broker. Takes an expression that makes a
/// [`Harness`](crate::suite::Harness); the calling crate needs `tokio` with its macros.
#[macro_export]
macro_rules! conformance_suite {
    ($harness:expr) => {
        $crate::__conformance_tests! { suite; $harness;
            enqueue: [
                accepted_tasks_are_pending_in_order,
                an_id_that_is_taken_is_refused_with_its_holders_state,
                the_same_id_twice_in_a_batch_is_accepted_once,
                the_same_id_may_be_used_in_two_queues,
                a_refused_task_does_not_keep_the_others_out,
                an_empty_batch_is_accepted,
                a_batch_larger_than_a_chunk_is_accepted_whole,
                a_delayed_task_is_scheduled_by_the_brokers_clock,
                a_time_is_kept_to_the_millisecond,
                a_time_that_has_passed_means_now,
                everything_in_the_envelope_is_kept,
                every_valid_id_and_queue_name_is_kept_apart,
                a_task_may_be_due_in_a_hundred_years,
                a_durability_that_cannot_be_had_is_an_error,
            ],
            lease: [
                tasks_are_leased_first_in_first_out,
                a_higher_priority_goes_first,
                at_most_max_tasks_are_leased,
                each_queue_gives_at_most_its_cap_in_the_order_asked,
                a_leased_task_is_active_and_is_not_leased_again,
                every_lease_has_a_token_of_its_own,
                a_lease_tells_since_when_its_task_was_pending,
                a_paused_queue_gives_nothing,
                an_unknown_queue_gives_nothing,
                a_lease_knows_the_brokers_time,
                a_lease_lasts_as_long_as_was_asked,
                only_pending_tasks_are_leased,
                a_paused_queue_does_not_hold_up_the_others,
            ],
            extend: [
                an_extended_lease_does_not_expire,
                a_lease_that_was_settled_is_lost,
                a_lease_that_passed_to_another_is_lost,
                an_expired_lease_that_nobody_took_can_be_extended,
                an_extension_counts_from_now,
                an_extended_lease_keeps_its_worker_and_progress,
                extensions_are_answered_in_order_over_several_queues,
            ],
            settle: [
                a_completed_task_without_retention_is_gone,
                a_failed_task_waits_for_its_retry_with_its_failures,
                a_retry_without_delay_is_pending_at_once,
                a_snoozed_task_is_scheduled_and_has_not_failed,
                a_snoozed_task_keeps_what_its_server_noted,
                a_released_task_goes_to_the_front_untouched,
                released_tasks_keep_their_priority,
                an_archived_task_is_kept_with_its_reason,
                a_dropped_task_is_gone,
                an_outcome_counts_once,
                an_outcome_under_an_old_token_is_refused,
                an_outcome_for_an_unknown_task_is_refused,
                an_expired_lease_that_nobody_took_can_be_settled,
                a_batch_is_answered_in_order_over_several_queues,
                the_envelope_given_is_the_version_kept,
                a_snooze_without_delay_is_pending_at_once,
                of_several_given_back_in_a_batch_the_last_goes_first,
                an_outcome_is_counted_as_what_it_is,
            ],
            forward: [
                a_task_is_never_due_early,
                due_tasks_become_pending_in_the_order_they_are_due,
                at_most_limit_tasks_are_forwarded,
                scheduled_tasks_and_retries_are_forwarded_as_they_are_due,
                the_next_due_time_is_told,
                a_forwarded_task_keeps_its_priority,
                due_tasks_of_a_paused_queue_become_pending,
                due_tasks_of_the_queues_asked_are_forwarded,
                a_forwarded_retry_keeps_its_history,
            ],
            reclaim: [
                a_lease_that_has_ended_is_listed_with_its_token,
                of_two_that_reclaim_the_first_wins,
                at_most_limit_lost_leases_are_listed,
                a_reclaimed_task_is_leased_anew_and_the_zombie_is_refused,
                a_lease_that_is_extended_meanwhile_is_not_reclaimed,
                lost_leases_of_a_paused_queue_are_listed,
                lost_leases_of_the_queues_asked_are_listed,
            ],
            unique: [
                a_second_task_with_the_key_is_refused_and_the_holder_named,
                a_lock_until_start_ends_with_the_lease,
                a_lock_until_success_is_held_through_retries_and_ends_with_completion,
                a_lock_for_a_window_outlives_its_task,
                every_final_state_releases_a_lock_until_success,
                a_lock_ends_with_its_time_to_live,
                a_late_holder_does_not_release_the_lock_of_the_next,
                a_task_refused_for_its_id_takes_no_lock,
                an_archived_task_runs_again_only_if_its_lock_is_free,
                no_end_of_a_late_holder_releases_the_lock_of_the_next,
                of_two_in_a_batch_the_first_takes_the_key,
                a_key_is_held_in_its_queue,
                a_scheduled_task_holds_its_lock,
                a_lock_until_start_is_not_taken_again_by_a_retry,
                a_lock_until_start_is_taken_again_by_a_task_that_comes_back,
                a_task_that_comes_back_leaves_its_lock_to_another_that_holds_it,
                of_two_that_come_back_in_a_batch_the_first_takes_the_lock,
                a_lock_until_start_ends_with_a_task_that_never_starts,
                a_lock_until_success_is_held_while_the_task_waits_again,
                a_window_is_held_whatever_becomes_of_its_task,
                trimming_leaves_the_locks_that_are_held,
            ],
            retention: [
                a_completed_task_is_kept_with_its_result_for_its_retention,
                archived_tasks_are_trimmed_by_age,
                archived_tasks_are_trimmed_by_number_oldest_first,
                at_most_limit_tasks_are_trimmed,
                waiting_and_active_tasks_are_never_trimmed,
                the_oldest_archived_tasks_are_trimmed_first,
                completed_tasks_stay_however_few_archived_ones_are_kept,
                each_queue_keeps_archived_tasks_of_its_own,
                a_trimmed_tasks_id_is_free_again,
                archived_tasks_that_are_trimmed_are_counted,
                an_archive_knows_its_limit_once_it_is_trimmed,
            ],
            cancel: [
                a_waiting_task_is_archived_with_the_reason,
                the_worker_of_an_active_task_is_told,
                a_cancelled_task_that_fails_is_not_retried,
                a_cancelled_task_that_is_given_back_is_archived,
                a_cancelled_task_that_is_archived_keeps_the_reason,
                a_cancelled_task_that_completes_anyway_is_completed,
                a_finished_task_cannot_be_cancelled,
                a_cancelled_pending_task_is_not_leased,
                a_cancelled_task_that_is_dropped_is_gone,
                a_cancelled_task_whose_worker_is_lost_is_archived,
                the_reason_given_first_is_kept,
                a_request_to_cancel_ends_with_the_lease,
                cancelling_what_waits_counts_no_attempt,
                cancellations_are_answered_in_order_over_several_queues,
                giving_back_a_cancelled_task_counts_no_failure,
            ],
            signals: [
                the_first_pending_task_of_an_empty_queue_is_signalled_once,
                forwarding_giving_back_and_running_now_signal_too,
                resuming_a_queue_with_tasks_is_signalled,
                a_task_that_is_due_before_all_others_is_signalled,
                other_queues_are_not_heard,
                retries_and_snoozes_signal_when_they_are_due_first,
                a_task_that_is_due_before_all_that_are_left_is_signalled,
                a_tick_that_fires_is_signalled,
                all_who_listen_hear,
                one_may_listen_to_several_queues,
                a_queue_with_pending_tasks_is_not_signalled_again,
                resuming_is_signalled_only_if_it_changes_something,
                cancelling_tasks_that_wait_is_not_signalled,
            ],
            wait: [
                one_who_waits_is_told_of_the_result,
                one_who_waits_is_told_of_the_failure,
                all_who_wait_are_told,
                a_final_task_is_not_waited_for,
                an_unknown_task_is_gone,
                one_who_stops_waiting_does_no_harm,
                a_deleted_task_is_told_as_gone,
                one_who_waits_is_told_of_a_result_that_is_not_kept,
                one_who_waits_is_told_of_a_cancellation,
                a_task_that_waits_again_is_still_waited_for,
                a_dropped_task_is_told_as_gone,
                closing_lets_go_of_all_who_wait,
                an_archived_task_is_told_with_its_failure_at_once,
                an_archived_task_that_runs_again_is_waited_for_anew,
            ],
            control: [
                a_deleted_task_is_gone_unless_it_is_active,
                waiting_and_archived_tasks_run_now,
                the_times_of_a_task_that_is_too_late_are_renewed_when_it_is_to_run,
                the_times_of_a_task_that_is_not_too_late_stay,
                progress_is_seen_while_the_task_is_active,
                a_paused_queue_still_accepts_tasks,
                a_closed_broker_refuses_everything,
                a_broker_answers_a_ping,
                a_deleted_pending_task_is_not_leased,
                a_task_that_is_run_now_keeps_its_priority,
                nothing_asked_is_nothing_answered,
                a_limit_of_zero_takes_nothing,
                the_same_task_twice_in_a_batch_is_answered_twice,
                the_largest_limit_takes_everything,
            ],
            inspect: [
                a_queue_is_known_once_it_has_had_a_task,
                counts_add_up_through_a_whole_life,
                latency_is_the_age_of_the_next_task,
                an_unknown_queue_is_empty,
                tasks_are_told_in_the_order_asked,
                waiting_tasks_are_listed_in_the_order_they_will_run,
                finished_tasks_are_listed_newest_first,
                pages_make_up_the_whole_list,
                a_task_shows_what_its_state_knows,
                each_state_has_a_list_of_its_own,
                asking_for_the_unknown_makes_no_queue,
                latency_is_of_the_task_that_will_run_next,
            ],
            declared: [
                a_change_of_subscribers_changes_their_mark,
                missing_subscribers_are_put_back,
                a_subscriber_that_was_removed_is_not_put_back,
                a_removal_of_a_subscriber_is_forgotten_after_an_hour,
                an_entry_that_comes_or_goes_changes_the_mark_of_schedules,
                missing_entries_are_put_back_and_others_left_as_they_are,
                an_entry_that_was_removed_is_not_put_back,
                more_entries_than_fit_into_a_call_are_put_back,
            ],
            schedules: [
                an_entry_replaces_one_of_the_same_name,
                a_removed_entry_is_gone,
                a_tick_fires_once_however_many_schedulers_try,
                a_tick_that_is_not_the_next_is_passed_over,
                a_tick_whose_task_is_there_already_moves_the_entry_on,
                everything_in_an_entry_is_kept,
                the_last_tick_leaves_the_entry,
                a_tick_of_an_entry_that_was_replaced_is_passed_over,
                a_tick_whose_unique_lock_is_held_moves_the_entry_on,
                a_tick_whose_task_is_done_and_gone_is_not_enqueued_again,
                a_task_that_is_fired_early_waits_for_its_tick,
                only_entries_that_are_due_and_not_paused_are_listed,
                an_entry_is_due_at_its_tick_and_not_after_it_has_fired,
                a_tick_of_a_paused_entry_is_passed_over,
                a_skipped_tick_enqueues_nothing,
                what_came_of_each_tick_is_kept_newest_first,
                the_history_of_an_entry_is_bounded,
            ],
            swaps: [
                an_entry_is_changed_only_if_it_is_as_it_was_seen,
                racing_changes_of_an_entry_all_hold,
                an_entry_that_is_removed_does_not_come_back,
                nothing_is_left_of_a_removed_entry,
                a_last_tick_far_ahead_counts_for_nothing,
            ],
            replace: [
                a_task_that_waits_can_be_replaced,
                active_and_completed_tasks_are_not_replaced,
                a_task_that_has_changed_is_not_replaced,
                a_task_can_be_moved_to_another_state,
                a_task_that_is_put_away_has_come_to_its_end,
                a_task_that_is_too_late_is_renewed_when_it_is_moved_to_run,
                a_queue_with_tasks_is_not_deleted,
                a_queue_that_is_deleted_by_force_is_gone,
                what_has_ended_is_counted_by_the_hour,
                history_is_kept_for_ninety_days,
                storage_tells_of_itself,
                a_closed_broker_changes_nothing,
            ],
            groups: [
                a_task_to_be_aggregated_waits_in_its_group,
                groups_that_wait_can_be_looked_at,
                a_group_is_due_when_its_grace_period_is_over,
                a_group_is_due_when_its_longest_delay_is_over,
                a_group_is_due_when_it_has_its_size,
                the_members_of_a_group_become_one_task,
                of_two_that_aggregate_a_group_the_first_wins,
                a_group_that_has_lost_a_member_is_not_aggregated,
                a_member_that_comes_in_meanwhile_stays,
                a_group_whose_new_task_is_refused_stays,
                groups_are_kept_apart,
                at_most_limit_groups_are_told,
                a_postponed_group_is_due_later,
                a_member_runs_now_if_someone_asks,
                a_deleted_member_is_gone,
                the_locks_of_members_are_released,
                one_who_waits_for_a_member_is_told_that_it_is_gone,
                members_are_listed_by_group_oldest_first,
                a_group_that_is_due_before_all_others_is_signalled,
            ],
            parts: [
                members_that_are_set_apart_are_due_by_themselves,
                a_part_that_was_set_apart_becomes_one_task,
                a_part_is_set_apart_again,
                a_member_is_set_apart_only_as_it_was_seen,
                of_several_that_set_members_apart_the_first_wins,
                a_racing_edit_and_set_apart_both_hold,
                members_that_are_set_apart_can_be_taken_out,
            ],
            failing_groups: [
                a_member_that_cannot_be_read_is_left_to_a_server_that_can,
                a_member_that_no_server_can_read_is_archived_in_the_end,
                a_member_that_its_group_fails_with_is_found_and_archived,
                members_whose_task_conflicts_are_tried_again,
            ],
            fleet: [
                a_server_is_known_by_what_it_told_last,
                a_server_that_is_not_heard_of_is_forgotten,
                a_server_that_leaves_is_forgotten,
                a_server_is_given_the_latest_request_at_each_beat,
                a_server_that_is_not_known_is_not_asked_for_anything,
                subscribers_are_known_by_event,
                subscribing_again_changes_nothing,
                a_subscriber_that_is_removed_is_gone,
                racing_subscribers_are_all_added,
            ],
            lifecycle: [
                an_event_reaches_every_subscriber_once,
                a_subscriber_misses_nothing_while_it_is_away,
                a_subscriber_added_later_gets_events_from_then_on,
                an_event_that_is_published_again_is_not_delivered_again,
                one_who_unsubscribes_gets_no_more_events,
                a_subscribers_failed_task_is_enqueued_again_at_once,
                the_payloads_of_a_group_become_one_task,
                a_group_beyond_its_size_becomes_several_tasks,
                limits_of_a_group_that_make_no_sense_are_refused,
                a_running_task_is_cancelled_on_any_server,
                an_expired_task_is_not_started,
                the_changes_of_a_task_are_told,
                every_attempt_at_a_task_is_told,
                a_server_tells_what_it_runs,
                a_wait_that_begins_with_the_enqueue_never_misses_the_end,
            ],
            late: [
                a_task_that_was_begun_in_time_does_not_expire,
                a_task_that_was_too_late_runs_when_somebody_asks_for_it,
            ],
            inspector: [
                queues_are_told_with_what_ended_today,
                a_task_is_found_by_its_id_in_any_queue,
                a_filter_finds_the_tasks_that_are_meant,
                the_pages_of_a_filtered_list_make_up_the_whole,
                a_retried_task_has_all_its_attempts_before_it,
                a_task_is_put_away_and_run_later,
                a_payload_is_edited_as_json,
                a_task_is_enqueued_again_whatever_has_become_of_it,
                a_task_that_is_enqueued_again_waits_for_the_unique_lock,
                a_task_with_a_window_is_enqueued_again_once_it_has_ended,
                a_task_moves_to_another_queue,
                a_task_that_cannot_move_stays,
                actions_are_answered_one_by_one,
                all_that_match_are_changed,
                all_that_run_are_cancelled,
                results_are_shown_as_json,
            ],
            scheduler: [
                a_task_is_enqueued_at_each_tick,
                several_schedulers_do_as_one,
                missed_ticks_are_left_out,
                missed_ticks_are_made_up_for_once,
                the_last_missed_ticks_are_made_up_for,
                entries_are_changed_at_run_time,
                racing_changes_at_run_time_both_hold,
                a_schedule_goes_on_when_the_clock_is_right_again,
                an_entry_whose_rule_cannot_be_read_is_left_to_others,
                an_entry_that_is_put_again_stands_where_it_stood,
                entries_that_their_owner_has_given_up_are_removed,
                hooks_are_called_before_and_after_a_tick,
                a_task_waits_for_its_jitter,
                a_tick_is_not_held_up_by_the_one_before,
                entries_come_from_a_file_that_is_watched,
                a_file_that_makes_no_sense_is_refused,
                entries_that_make_no_sense_are_refused,
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
                a_task_that_moves_is_in_one_state_at_any_instant,
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
