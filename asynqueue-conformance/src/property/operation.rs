//! Random operations.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{Keep, LeaseToken, NewTask, Outcome, Settlement, When},
    codec::{CodecName, MessagePack},
    process::Progress,
    task::{
        Aggregate, Clock, Envelope, Failure, FailureKind, TaskId, TaskOptions, TaskRef, Timestamp,
        UniqueKey, UniqueLock, UniqueUntil,
    },
    testing::TestClock,
};
use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::QUEUES;

/// Whether an outcome counts only if its lease has expired.
pub type OnlyIfExpired = bool;

/// Identifies a lease among all that were issued: 0 is the newest.
pub type Place = usize;

/// One operation on a broker.
#[derive(Clone)]
pub enum Operation {
    /// Enqueues a batch.
    Enqueue(Vec<NewTask>),
    /// Leases from queues, by index, with a maximum for each.
    Lease {
        /// The queues, and the maximum for each.
        caps: Vec<(usize, usize)>,
        /// The maximum for all.
        max: usize,
        /// The duration of the leases.
        lease: Duration,
    },
    /// Extends leases for this long.
    Extend(Vec<Place>, Duration),
    /// Settles leases, which may already be settled, lost or reclaimed.
    Settle(Vec<(Place, Outcome, OnlyIfExpired)>),
    /// Reclaims up to this many lost tasks.
    Reclaim(usize),
    /// Forwards up to this many due tasks.
    Forward(usize),
    /// Trims until nothing is left to trim, up to this many at a time.
    Trim(Keep, usize),
    /// Reports progress of leases, valid or not.
    Report(Vec<(Place, Progress)>),
    /// Cancels tasks.
    Cancel(Vec<TaskRef>),
    /// Deletes tasks.
    Delete(Vec<TaskRef>),
    /// Runs tasks now.
    RunNow(Vec<TaskRef>),
    /// Pauses or resumes a queue, by index.
    Pause(usize, bool),
    /// Replaces tasks with new versions, and moves them.
    Replace(Vec<(TaskRef, Option<Shift>)>),
    /// Aggregates each of up to this many due groups into one task with this id.
    Aggregate(TaskId, usize),
    /// Advances the clock.
    Advance(Duration),
}

/// Where a task is moved to.
#[derive(Clone, Copy, Debug)]
pub enum Shift {
    /// After the pending ones.
    Pending,
    /// Scheduled after this delay.
    Scheduled(Duration),
    /// Into the archive.
    Archived,
}

/// Up to `max` operations, including groups and replacements, for [`compare`](super::compare): the model has neither.
pub fn operations_with_groups(max: usize) -> impl Strategy<Value = Vec<Operation>> {
    let limits = (whole_seconds(), 1_usize..4).prop_map(|(grace, max_size)| {
        Aggregate::DEFAULT
            .grace(grace)
            .max_delay(grace * 2)
            .max_size(max_size)
    });
    let group = prop::sample::select(vec![None, Some("a"), Some("b")]);
    let grouped = (new_task(), limits, group).prop_map(|(mut task, limits, group)| {
        let options = Arc::make_mut(&mut task.envelope.options);
        options.aggregate = Some(limits);
        options.group = group.map(Into::into);
        task
    });
    let shift = prop_oneof![
        Just(Shift::Pending),
        seconds(0..60).prop_map(Shift::Scheduled),
        Just(Shift::Archived),
    ];
    let replace = vec((task_ref(), prop::option::of(shift)), 1..3);
    let operation = prop_oneof![
        12 => operation(),
        6 => vec(grouped, 1..4).prop_map(Operation::Enqueue),
        3 => replace.prop_map(Operation::Replace),
        4 => (0_u8..6, 0_usize..3).prop_map(|(id, limit)| Operation::Aggregate(task_id(id), limit)),
    ];
    vec(operation, 1..max)
}

/// Up to `max` operations, on few enough tasks that they interfere.
pub fn operations(max: usize) -> impl Strategy<Value = Vec<Operation>> {
    vec(operation(), 1..max)
}

fn operation() -> impl Strategy<Value = Operation> {
    let queue = 0..QUEUES.len();
    prop_oneof![
        6 => vec(new_task(), 1..4).prop_map(Operation::Enqueue),
        6 => (prop::sample::subsequence(vec![0, 1], 1..=2), 0_usize..4, 1_usize..4, seconds(1..60)).prop_map(|(queues, cap, max, lease)| {
            Operation::Lease { caps: queues.into_iter().map(|queue| (queue, cap)).collect(), max, lease }
        }),
        1 => (vec(0_usize..6, 1..3), seconds(1..60)).prop_map(|(leases, lease)| Operation::Extend(leases, lease)),
        6 => vec((0_usize..6, outcome(), prop::bool::weighted(0.2)), 1..4).prop_map(Operation::Settle),
        1 => (1_usize..4).prop_map(Operation::Reclaim),
        2 => (1_usize..4).prop_map(Operation::Forward),
        2 => (keep(), 1_usize..4).prop_map(|(keep, limit)| Operation::Trim(keep, limit)),
        1 => vec((0_usize..6, progress()), 1..3).prop_map(Operation::Report),
        1 => vec(task_ref(), 1..3).prop_map(Operation::Cancel),
        1 => vec(task_ref(), 1..3).prop_map(Operation::Delete),
        1 => vec(task_ref(), 1..3).prop_map(Operation::RunNow),
        1 => (queue, any::<bool>()).prop_map(|(queue, paused)| Operation::Pause(queue, paused)),
        2 => seconds(1..60).prop_map(Operation::Advance),
    ]
}

/// Sometimes with a fraction of a millisecond, which must not make anything early.
fn seconds(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    let part = prop_oneof![4 => Just(0), 1 => 1_u64..2_000];
    (range, part)
        .prop_map(|(seconds, micros)| Duration::from_secs(seconds) + Duration::from_micros(micros))
}

/// Parts of an envelope may be stored to the millisecond.
fn whole_seconds() -> impl Strategy<Value = Duration> {
    (1_u64..100).prop_map(Duration::from_secs)
}

fn keep() -> impl Strategy<Value = Keep> {
    (seconds(1..200), 0_usize..4)
        .prop_map(|(archived_for, archived_max)| Keep::new(archived_for, archived_max))
}

fn progress() -> impl Strategy<Value = Progress> {
    (0_u64..10).prop_map(|done| Progress::new(done, 10, "at it"))
}

/// Around the start of test clocks, and long before.
fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        1 => Just(Timestamp::default()),
        4 => seconds(0..600).prop_map(|later| TestClock::default().now() + later),
    ]
}

fn task_ref() -> impl Strategy<Value = TaskRef> {
    (0..QUEUES.len(), 0_u8..6).prop_map(|(queue, id)| TaskRef::new(QUEUES[queue], task_id(id)))
}

fn task_id(id: u8) -> TaskId {
    TaskId::new(format!("task-{id}")).expect("an id without white space")
}

fn new_task() -> impl Strategy<Value = NewTask> {
    let when = prop_oneof![
        6 => Just(When::Now),
        2 => seconds(0..60).prop_map(When::After),
        1 => time().prop_map(When::At),
    ];
    let priority = prop_oneof![3 => Just(0_u8), 1 => 1_u8..=9];
    let retention = prop_oneof![1 => Just(Duration::ZERO), 1 => whole_seconds()];
    let envelope = (task_ref(), priority, retention, prop::option::of(lock()));
    (envelope, when).prop_map(|((task, priority, retention, unique), when)| {
        let mut envelope = Envelope::new(
            task.id,
            "event",
            CodecName::of::<MessagePack>(),
            Bytes::from_static(b"payload"),
        );
        let queue = task.queue.clone();
        envelope.queue = task.queue;
        envelope.options = TaskOptions::shared(|options| {
            options.queue = queue;
            options.priority = priority;
            options.retention = retention;
        });
        envelope.unique = unique.map(Box::new);
        NewTask::new(envelope, when)
    })
}

fn lock() -> impl Strategy<Value = UniqueLock> {
    let until = prop::sample::select(vec![
        UniqueUntil::Start,
        UniqueUntil::Success,
        UniqueUntil::Window,
    ]);
    (0_u8..3, until, whole_seconds()).prop_map(|(key, until, ttl)| {
        UniqueLock::new(UniqueKey::new(format!("key-{key}")), until, ttl)
    })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => prop::option::of(Just(Bytes::from_static(b"result"))).prop_map(|result| Outcome::Complete { result }),
        2 => seconds(0..60).prop_map(|delay| Outcome::Retry { delay }),
        1 => seconds(0..60).prop_map(|delay| Outcome::Snooze { delay }),
        1 => Just(Outcome::Release),
        1 => Just(Outcome::Archive),
        1 => Just(Outcome::Drop),
    ]
}

/// Tasks as a producer sends them at that time.
pub(super) fn enqueued_at(tasks: &[NewTask], now: Timestamp) -> Vec<NewTask> {
    let mut tasks = tasks.to_vec();
    for task in &mut tasks {
        task.envelope.enqueued_at = now;
    }
    tasks
}

/// The settlement of a lease, with one more failure if it has failed.
pub(super) fn settlement(
    envelope: &Arc<Envelope>,
    token: LeaseToken,
    outcome: Outcome,
    only_if_expired: OnlyIfExpired,
) -> Settlement {
    let leased = Arc::clone(envelope);
    let mut envelope = Arc::clone(envelope);
    if matches!(outcome, Outcome::Retry { .. } | Outcome::Archive) {
        let envelope = Arc::make_mut(&mut envelope);
        envelope.attempts += 1;
        envelope.push_failure(Failure::new(
            envelope.attempts,
            Timestamp::from_millis(1),
            FailureKind::Error,
            "no luck",
        ));
    }
    Settlement {
        leased,
        envelope,
        token,
        outcome,
        only_if_expired,
    }
}
