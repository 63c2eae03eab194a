//! Metrics of tasks.

use std::{sync::Arc, time::Instant};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::meters::{Meter, Meters};
use crate::{
    broker::{Outcome, Settled, Settlement, Trimmed},
    process::Context,
    task::{Envelope, Name},
};

static ENQUEUED: Meters<EnqueueMeter> = Meters::new();
static TASKS: Meters<TaskMeter> = Meters::new();
static TRIMMED: Meters<TrimMeter> = Meters::new();
static UNHANDLED: Meters<UnhandledMeter> = Meters::new();

/// The event label of tasks without a handler.
static UNKNOWN: Name = Name::from_static("unknown");

/// The result of enqueueing a task.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EnqueueResult {
    Accepted,
    /// Its id or its lock is taken.
    Duplicate,
    /// It was refused before it was sent.
    Refused,
    /// The broker call failed.
    Failed,
}

const RESULTS: [&str; 4] = ["accepted", "duplicate", "refused", "failed"];

struct EnqueueMeter([Counter; RESULTS.len()]);

impl Meter for EnqueueMeter {
    fn register(queue: &Name, event: &Name) -> Self {
        let (queue, event) = (queue.to_string(), event.to_string());
        Self(RESULTS.map(|result| {
            counter!("asynqueue_tasks_enqueued_total", "queue" => queue.clone(), "event" => event.clone(), "result" => result)
        }))
    }
}

/// Counts the results of enqueueing tasks of one queue and event.
pub(crate) struct Enqueueing(Arc<EnqueueMeter>);

impl Enqueueing {
    pub(crate) fn of(queue: &Name, event: &Name) -> Self {
        Self(ENQUEUED.of(queue, event))
    }

    pub(crate) fn add(&self, result: EnqueueResult, tasks: usize) {
        if tasks > 0 {
            self.0.0[result as usize].increment(tasks as u64);
        }
    }
}

/// Counts a task that was enqueued.
pub(crate) fn enqueued(queue: &Name, event: &Name, result: EnqueueResult) {
    Enqueueing::of(queue, event).add(result, 1);
}

/// In the order of [`outcome`].
const OUTCOMES: [&str; 7] = [
    "completed",
    "retried",
    "archived",
    "cancelled",
    "snoozed",
    "released",
    "revoked",
];

fn outcome(settlement: &Settlement, settled: Settled) -> usize {
    match (&settlement.outcome, settled) {
        (_, Settled::Cancelled) => 3,
        (_, Settled::Completed) | (Outcome::Complete { .. }, _) => 0,
        (Outcome::Retry { .. }, _) => 1,
        (Outcome::Archive, _) => 2,
        (Outcome::Snooze { .. }, _) => 4,
        (Outcome::Release, _) => 5,
        (Outcome::Drop, _) => 6,
    }
}

struct TaskMeter {
    processed: [Counter; OUTCOMES.len()],
    aggregated: Counter,
    reclaimed: Counter,
    refused: Counter,
    lost: Counter,
    waiting: Histogram,
    handling: Histogram,
    running: Gauge,
}

impl Meter for TaskMeter {
    fn register(queue: &Name, event: &Name) -> Self {
        let labels = [("queue", queue.to_string()), ("event", event.to_string())];
        let processed = OUTCOMES.map(|outcome| {
            let mut labels = labels.to_vec();
            labels.push(("outcome", outcome.to_owned()));
            counter!("asynqueue_tasks_processed_total", &labels)
        });
        Self {
            processed,
            aggregated: counter!("asynqueue_tasks_aggregated_total", &labels),
            reclaimed: counter!("asynqueue_tasks_reclaimed_total", &labels),
            refused: counter!("asynqueue_outcomes_refused_total", &labels),
            lost: counter!("asynqueue_leases_lost_total", &labels),
            waiting: histogram!("asynqueue_task_waiting_seconds", &labels),
            handling: histogram!("asynqueue_task_handling_seconds", &labels),
            running: gauge!("asynqueue_tasks_running", &labels),
        }
    }
}

/// The meter of a task. `is_known` if the server has a handler for its event.
fn meter_of(task: &Envelope, is_known: bool) -> Arc<TaskMeter> {
    let event = if is_known { &task.event } else { &UNKNOWN };
    TASKS.of(&task.queue, event)
}

/// Counts the outcomes that the broker has recorded. `is_known` is as for `meter_of`.
pub(crate) fn settled<'a>(
    outcomes: impl Iterator<Item = (&'a Settlement, Settled)>,
    is_known: impl Fn(&Name) -> bool,
) {
    // Most tasks of a batch have the same queue and event.
    let mut last: Option<(&Envelope, Arc<TaskMeter>)> = None;
    for (settlement, settled) in outcomes {
        let task = &*settlement.envelope;
        let meter = match last.take() {
            Some((before, meter)) if before.event == task.event && before.queue == task.queue => {
                meter
            }
            _ => meter_of(task, is_known(&task.event)),
        };
        match settled {
            Settled::Stale => meter.refused.increment(1),
            _ => meter.processed[outcome(settlement, settled)].increment(1),
        }
        last = Some((task, meter));
    }
}

/// Counts a task that was reclaimed from a lost worker. Its outcome is [counted](settled) as well.
pub(crate) fn reclaimed(task: &Envelope, is_known: bool) {
    meter_of(task, is_known).reclaimed.increment(1);
}

/// Counts a task whose lease expired while it was here.
pub(crate) fn lease_lost(task: &Envelope, is_known: bool) {
    meter_of(task, is_known).lost.increment(1);
}

struct UnhandledMeter(Counter);

impl Meter for UnhandledMeter {
    fn register(queue: &Name, _: &Name) -> Self {
        Self(counter!("asynqueue_unknown_events_total", "queue" => queue.to_string()))
    }
}

/// Counts a task that was released because this server has no handler for its event.
pub(crate) fn unhandled(queue: &Name) {
    UNHANDLED.of(queue, &UNKNOWN).0.increment(1);
}

/// Counts tasks that were aggregated into another.
pub(crate) fn aggregated(queue: &Name, event: &Name, tasks: usize) {
    TASKS.of(queue, event).aggregated.increment(tasks as u64);
}

struct TrimMeter {
    by_count: Counter,
    by_age: Counter,
}

impl Meter for TrimMeter {
    fn register(queue: &Name, _event: &Name) -> Self {
        let counter = |reason: &'static str| counter!("asynqueue_tasks_trimmed_total", "queue" => queue.to_string(), "reason" => reason);
        Self {
            by_count: counter("count"),
            by_age: counter("age"),
        }
    }
}

/// Counts archived tasks of a queue that this process deleted because of the archive limits.
pub(crate) fn trimmed(queue: &Name, trimmed: &Trimmed) {
    let meter = TRIMMED.of(queue, &UNKNOWN);
    meter.by_count.increment(trimmed.by_count as u64);
    meter.by_age.increment(trimmed.by_age as u64);
}

/// A running attempt. It ends on drop, so that an abandoned handler counts too.
pub(crate) struct Measured {
    meter: Arc<TaskMeter>,
    started: Instant,
}

impl Measured {
    pub(crate) fn start(context: &Context) -> Self {
        let meter = TASKS.of(context.queue(), context.event());
        if let Some(waited) = context.waited() {
            meter.waiting.record(waited.as_secs_f64());
        }
        meter.running.increment(1.0);
        Self {
            meter,
            started: Instant::now(),
        }
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.meter.running.decrement(1.0);
        self.meter
            .handling
            .record(self.started.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        broker::{LeaseToken, Leased},
        codec::{CodecName, MessagePack},
        task::{TaskId, Timestamp},
    };

    #[test]
    fn a_task_that_its_handler_completed_counts_as_completed_whatever_came_later() {
        let codec = CodecName::of::<MessagePack>();
        let task = Envelope::new(TaskId::generate(), "event", codec, Bytes::new());
        let leased = Leased::new(Arc::new(task), LeaseToken(1), Timestamp::default());
        let archive = leased.settle(Outcome::Archive);
        assert_eq!(OUTCOMES[outcome(&archive, Settled::Completed)], "completed");
        assert_eq!(OUTCOMES[outcome(&archive, Settled::Recorded)], "archived");
    }
}
