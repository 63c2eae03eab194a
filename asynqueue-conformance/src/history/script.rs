//! Requests of clients: chosen at random, about few enough tasks that clients interfere.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue_core::{
    broker::{Change, Edit, Leased, Move, NewTask, Outcome, Settlement, TaskInfo, When},
    codec::{CodecName, MessagePack},
    task::{
        Envelope, Failure, FailureKind, TaskId, TaskOptions, TaskRef, Timestamp, UniqueKey,
        UniqueLock, UniqueUntil,
    },
};
use bytes::Bytes;
use parking_lot::Mutex;
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

use super::{
    call::{Answer, Request},
    spec::NOW,
};
use crate::property::QUEUES;

/// Longer than a history.
const HOUR: Duration = Duration::from_secs(3600);

/// How many task ids each queue has.
const IDS: u8 = 24;

/// How many of the latest leases and tasks clients use.
const KEPT: usize = 8;

/// The responses that clients share, so that they use the leases and versions of others, including
/// invalid ones.
#[derive(Debug, Default)]
pub(super) struct Known {
    marks: AtomicU64,
    leased: Mutex<VecDeque<Leased>>,
    seen: Mutex<VecDeque<TaskInfo>>,
}

impl Known {
    /// Notes what a response contains.
    pub(super) fn note(&self, answer: &Answer) {
        match answer {
            Answer::Leased(queues) => {
                keep(&self.leased, queues.iter().flatten().flatten().cloned());
            }
            Answer::Looked(tasks) => keep(&self.seen, tasks.iter().flatten().cloned()),
            _ => {}
        }
    }

    /// A text that no other task or attempt has, so that no task ever returns to an earlier content, and each response
    /// shows which one it saw.
    fn mark(&self, what: &str) -> String {
        format!("{what}{}", self.marks.fetch_add(1, SeqCst))
    }

    fn some_lease(&self, random: &mut StdRng) -> Option<Leased> {
        some(&self.leased, random)
    }
}

fn keep<T>(kept: &Mutex<VecDeque<T>>, new: impl Iterator<Item = T>) {
    let mut kept = kept.lock();
    kept.extend(new);
    let over = kept.len().saturating_sub(KEPT);
    kept.drain(..over);
}

fn some<T: Clone>(kept: &Mutex<VecDeque<T>>, random: &mut StdRng) -> Option<T> {
    let kept = kept.lock();
    (!kept.is_empty()).then(|| kept[random.random_range(0..kept.len())].clone())
}

/// All possible tasks.
pub(super) fn all_tasks() -> Vec<TaskRef> {
    let of_queue = |queue: &&'static str| {
        let queue = *queue;
        (0..IDS).map(move |id| TaskRef::new(queue, task_id(id)))
    };
    QUEUES.iter().flat_map(of_queue).collect()
}

/// The next request of a client.
pub(super) fn request(known: &Known, random: &mut StdRng) -> Request {
    loop {
        let request = match random.random_range(0..20) {
            0..6 => Some(enqueue(known, random)),
            6..10 => Some(lease(random)),
            10..15 => settle(known, random),
            15..16 => extend(known, random),
            16..18 => Some(Request::Look(some_tasks(random))),
            _ => edit(known, random),
        };
        if let Some(request) = request {
            return request;
        }
    }
}

/// Leases one task from a queue. The lease lasts an hour.
pub(super) fn lease_of(queue: &str, cap: usize) -> Request {
    Request::Lease {
        queues: vec![(queue.to_owned().into(), cap)],
        lease: HOUR,
    }
}

/// The number of items in a request.
fn some_number(random: &mut StdRng) -> usize {
    if random.random_bool(0.6) {
        1
    } else {
        random.random_range(2..4)
    }
}

fn queue(random: &mut StdRng) -> &'static str {
    QUEUES[random.random_range(0..QUEUES.len())]
}

fn task_id(id: u8) -> TaskId {
    TaskId::new(format!("t{id}")).expect("an id without white space")
}

fn some_tasks(random: &mut StdRng) -> Vec<TaskRef> {
    let count = some_number(random);
    let mut task = || TaskRef::new(queue(random), task_id(random.random_range(0..IDS)));
    (0..count).map(|_| task()).collect()
}

fn enqueue(known: &Known, random: &mut StdRng) -> Request {
    let tasks = some_tasks(random).into_iter();
    Request::Enqueue(tasks.map(|task| new_task(task, known, random)).collect())
}

fn new_task(task: TaskRef, known: &Known, random: &mut StdRng) -> NewTask {
    let (payload, codec) = (known.mark("e"), CodecName::of::<MessagePack>());
    let mut envelope = Envelope::new(task.id, "event", codec, Bytes::from(payload));
    let queue = task.queue.clone();
    envelope.queue = task.queue;
    envelope.enqueued_at = NOW;
    let priority = if random.random_bool(0.2) { 5 } else { 0 };
    let retention = if random.random_bool(0.3) {
        HOUR
    } else {
        Duration::ZERO
    };
    envelope.options = TaskOptions::shared(|options| {
        options.queue = queue;
        options.priority = priority;
        options.retention = retention;
    });
    if random.random_bool(0.2) {
        let key = UniqueKey::new(format!("k{}", random.random_range(0..2)));
        envelope.unique = Some(Box::new(UniqueLock::new(key, UniqueUntil::Success, HOUR)));
    }
    let when = if random.random_bool(0.1) {
        When::After(HOUR)
    } else {
        When::Now
    };
    NewTask::new(envelope, when)
}

fn lease(random: &mut StdRng) -> Request {
    let cap = random.random_range(1..4);
    let queue = queue(random);
    let mut queues = vec![(queue.into(), cap)];
    if random.random_bool(0.2) {
        let other = QUEUES.iter().find(|other| **other != queue);
        queues.extend(other.map(|other| ((*other).into(), random.random_range(1..4))));
    }
    Request::Lease {
        queues,
        lease: HOUR,
    }
}

fn extend(known: &Known, random: &mut StdRng) -> Option<Request> {
    let lease = known.some_lease(random)?.lease();
    let by = if random.random_bool(0.5) {
        HOUR
    } else {
        Duration::ZERO
    };
    Some(Request::Extend(vec![lease], by))
}

fn settle(known: &Known, random: &mut StdRng) -> Option<Request> {
    let leased = (0..some_number(random)).filter_map(|_| known.some_lease(random));
    let leased: Vec<_> = leased.collect();
    let settle = |leased: &Leased| settlement(leased, known, random);
    let settlements: Vec<_> = leased.iter().map(settle).collect();
    (!settlements.is_empty()).then_some(Request::Settle(settlements))
}

fn settlement(leased: &Leased, known: &Known, random: &mut StdRng) -> Settlement {
    let wait = if random.random_bool(0.8) {
        Duration::ZERO
    } else {
        HOUR
    };
    let mark = known.mark("s");
    let outcome = match random.random_range(0..8) {
        0..2 => Outcome::Complete {
            result: Some(Bytes::from(mark.clone())),
        },
        2..4 => Outcome::Retry { delay: wait },
        4 => Outcome::Snooze { delay: wait },
        5 => Outcome::Release,
        6 => Outcome::Archive,
        _ => Outcome::Drop,
    };
    let mut envelope = Envelope::clone(&leased.envelope);
    if matches!(outcome, Outcome::Retry { .. } | Outcome::Archive) {
        envelope.attempts += 1;
    }
    envelope.push_failure(Failure::new(
        envelope.attempts,
        NOW,
        FailureKind::Error,
        mark,
    ));
    Settlement {
        leased: Arc::clone(&leased.envelope),
        envelope: Arc::new(envelope),
        token: leased.token,
        outcome,
        only_if_expired: random.random_bool(0.2),
    }
}

fn edit(known: &Known, random: &mut StdRng) -> Option<Request> {
    let seen = (0..some_number(random)).filter_map(|_| some(&known.seen, random));
    let seen: Vec<_> = seen.collect();
    let edit = |seen: TaskInfo| Edit {
        change: change(&seen, known, random),
        seen,
    };
    let edits: Vec<_> = seen.into_iter().map(edit).collect();
    (!edits.is_empty()).then_some(Request::Edit(edits))
}

fn change(seen: &TaskInfo, known: &Known, random: &mut StdRng) -> Change {
    let mark = known.mark("c");
    match random.random_range(0..6) {
        0 => Change::Delete,
        1..3 => Change::Cancel { reason: mark },
        _ => {
            let mut envelope = Envelope::clone(&seen.envelope);
            envelope.payload = Bytes::from(mark);
            let later = Move::Scheduled(Timestamp::from_millis(4_000_000_000_000));
            let places = [None, Some(Move::Pending), Some(later), Some(Move::Archived)];
            Change::Put {
                envelope: Arc::new(envelope),
                to: places.choose(random).copied().flatten(),
            }
        }
    }
}
