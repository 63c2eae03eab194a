//! Counters, durations and sizes for the recorder that the program has installed for the
//! [`metrics`](https://docs.rs/metrics) facade. Without a recorder, nothing is kept.
//!
//! Producers and servers record what they do; [`QueueMetrics`] reads the broker's figures of its queues. The number of
//! labels is bounded: events without a handler count as `unknown`. Beyond [`MAX_SERIES`] pairs of queue and event,
//! further ones count as `other`. Beyond [`QueueMetrics::max_queues`] queues, further ones are left out.
//!
#![doc = include_str!("names.md")]

mod meters;
mod outbox;
mod queues;
mod server;
mod task;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub use self::{
    meters::MAX_SERIES,
    queues::{QueueMetrics, QueueSnapshot},
};
pub(crate) use self::{
    outbox::{outbox_failed, outbox_size, relayed},
    server::{ServerMeter, broker_failed, restored},
    task::{
        EnqueueResult, Enqueueing, Measured, aggregated, enqueued, lease_lost, reclaimed, settled,
        trimmed, unhandled,
    },
};

/// Upper bounds for histograms of seconds, from 100 µs to hours.
pub const BUCKETS: [f64; 22] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0,
];

/// Describes each metric to the recorder. Call it once after installing the recorder.
pub fn describe() {
    describe_counter!("asynqueue_tasks_enqueued_total", "Enqueued tasks by result");
    describe_counter!(
        "asynqueue_tasks_processed_total",
        "Outcomes recorded by the broker: tasks completed, archived, cancelled or revoked; attempts retried, snoozed or released"
    );
    describe_counter!(
        "asynqueue_tasks_aggregated_total",
        "Tasks aggregated into another task"
    );
    describe_counter!(
        "asynqueue_tasks_reclaimed_total",
        "Attempts of lost workers whose tasks this server reclaimed"
    );
    describe_counter!(
        "asynqueue_tasks_trimmed_total",
        "Archived tasks deleted by this server because of an archive limit, by reason"
    );
    describe_counter!(
        "asynqueue_unknown_events_total",
        "Tasks released by this server because it has no handler for their event"
    );
    describe_counter!(
        "asynqueue_outcomes_refused_total",
        "Attempts whose outcome was refused because their lease had expired"
    );
    describe_counter!(
        "asynqueue_leases_lost_total",
        "Attempts that lost their lease while waiting or running on this server"
    );
    describe_histogram!(
        "asynqueue_task_waiting_seconds",
        Unit::Seconds,
        "Time that tasks were pending before each attempt"
    );
    describe_histogram!(
        "asynqueue_task_handling_seconds",
        Unit::Seconds,
        "Duration of attempts, including all layers"
    );
    describe_gauge!("asynqueue_tasks_running", "Running attempts");
    describe_gauge!(
        "asynqueue_server_slots",
        "Tasks that the server can run concurrently"
    );
    describe_gauge!(
        "asynqueue_server_slots_abandoned",
        "Handlers still running after their worker slot was freed"
    );
    describe_counter!(
        "asynqueue_broker_failures_total",
        "Failed calls to the broker"
    );
    describe_counter!(
        "asynqueue_declarations_restored_total",
        "Declared subscriptions and schedule entries that the broker had lost and this process restored"
    );
    describe_counter!(
        "asynqueue_outbox_relayed_total",
        "Entries of an outbox by their outcome"
    );
    describe_counter!(
        "asynqueue_outbox_errors_total",
        "Failed calls to the database of an outbox"
    );
    describe_gauge!("asynqueue_outbox_entries", "Entries of an outbox by state");
    describe_gauge!(
        "asynqueue_outbox_oldest_seconds",
        Unit::Seconds,
        "Age of the next entry to be relayed"
    );
}
