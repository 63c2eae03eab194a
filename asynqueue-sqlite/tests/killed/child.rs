//! The process that is killed: it calls the broker as fast as it can, and prints what was acknowledged.

use std::{io::Write, path::Path, sync::Arc, time::Duration};

use asynqueue_conformance::chaos::Dice;
use asynqueue_core::{
    broker::{LeaseRequest, Leased, NewTask, Outcome, Settled, SharedBroker, When, all_of},
    codec::{CodecName, MessagePack},
    task::{Envelope, Failure, FailureKind, Name, TaskId},
};
use tokio::task::JoinSet;

use super::{QUEUES, connect, queues};

pub(crate) const PATH: &str = "ASYNQUEUE_KILLED_PATH";
pub(crate) const ROUND: &str = "ASYNQUEUE_KILLED_ROUND";
pub(crate) const SEED: &str = "ASYNQUEUE_KILLED_SEED";

/// Before each of its lines, which share the output with those of the test framework.
pub(crate) const MARK: &str = "@ ";

/// Longer than a test takes: a lease ends by an outcome or by the parent.
pub(crate) const LEASE: Duration = Duration::from_secs(3_600);

const A_DAY: Duration = Duration::from_secs(24 * 3_600);

/// Prints a line in one piece, which stays in the pipe after the death of this process.
fn print(lines: impl IntoIterator<Item = String>) {
    let lines = lines.into_iter().map(|line| format!("{MARK}{line}\n"));
    let text: String = lines.collect();
    let written = std::io::stdout().lock().write_all(text.as_bytes());
    written.expect("the parent reads");
}

/// Calls the broker until this process is killed.
pub(crate) async fn run(path: &Path, round: &str, seed: u64) {
    print(["opening".to_owned()]);
    let broker = connect(path).await;
    let mut loops = JoinSet::new();
    for (number, most) in [1, 1, 1, 20].into_iter().enumerate() {
        let (broker, name) = (broker.clone(), format!("{round}-{number}"));
        loops.spawn(enqueue(broker, Dice::new(seed, &name), name, most));
    }
    for number in 0..2 {
        let name = format!("worker_{number}");
        loops.spawn(work(broker.clone(), Dice::new(seed, &name), name));
    }
    while let Some(ended) = loops.join_next().await {
        ended.expect("it runs until it is killed");
    }
}

/// The queue of a task follows from its number.
pub(crate) fn place_of(id: &str) -> usize {
    number_of(id) as usize % QUEUES.len()
}

/// An id is `ROUND-LOOP-NUMBER`.
fn number_of(id: &str) -> u64 {
    let number = id.rsplit('-').next().expect("an id has parts");
    number.parse().expect("a number")
}

fn task(id: &str) -> NewTask {
    let codec = CodecName::of::<MessagePack>();
    let mut task = Envelope::new(id.parse().expect("an id"), "work", codec, "payload".into());
    task.queue = QUEUES[place_of(id)].into();
    let options = Arc::make_mut(&mut task.options);
    options.queue = task.queue.clone();
    if is_kept(&task.id) {
        options.retention = A_DAY;
    }
    NewTask::new(task, When::Now)
}

/// Whether a task is kept once it is completed.
fn is_kept(id: &TaskId) -> bool {
    number_of(id.as_str()).is_multiple_of(4)
}

/// Enqueues up to `most` tasks in each call.
async fn enqueue(broker: SharedBroker, mut dice: Dice, name: String, most: u64) {
    let mut next = 0;
    loop {
        let count = 1 + dice.below(most);
        let ids: Vec<_> = (next..next + count)
            .map(|n| format!("{name}-{n}"))
            .collect();
        next += count;
        let tasks = ids.iter().map(|id| task(id)).collect();
        let accepted = broker.enqueue(tasks).await.expect("an answer");
        assert!(
            accepted.iter().all(Result::is_ok),
            "new ids are accepted: {accepted:?}"
        );
        print(ids.iter().map(|id| format!("enqueued {id}")));
    }
}

/// Leases and settles, several tasks in each call.
async fn work(broker: SharedBroker, mut dice: Dice, name: String) {
    loop {
        let most = 1 + dice.below(40) as usize;
        let caps = queues().into_iter().map(|queue| (queue, most)).collect();
        let request = LeaseRequest::new(caps, most, LEASE, Name::from(&*name));
        let leased = all_of(broker.lease(&request).await)
            .expect("leases")
            .concat();
        if leased.is_empty() {
            tokio::task::yield_now().await;
            continue;
        }
        let ends: Vec<_> = leased.iter().map(|task| end_of(task, &mut dice)).collect();
        let line = |word: &str, (task, end): (&Leased, &End)| {
            format!("{word} {} {} {}", task.envelope.id, task.token.0, end.word)
        };
        let each = || leased.iter().zip(&ends);
        print(each().map(|end| line("settling", end)));
        let settlements = each().map(|(task, end)| {
            let mut task = task.clone();
            if end.has_failed {
                task.envelope = failed(&task.envelope);
            }
            task.settle(end.outcome.clone())
        });
        let settlements: Vec<_> = settlements.collect();
        let settled = all_of(broker.settle(&settlements).await).expect("an answer");
        let are_recorded = settled.iter().all(|settled| *settled == Settled::Recorded);
        assert!(
            are_recorded,
            "no other process has these leases: {settled:?}"
        );
        print(each().map(|end| line("settled", end)));
    }
}

/// How an attempt ends, and the word for the state of its task after that.
struct End {
    outcome: Outcome,
    word: &'static str,
    has_failed: bool,
}

fn end_of(task: &Leased, dice: &mut Dice) -> End {
    let (outcome, word, has_failed) = match dice.below(12) {
        0 => (Outcome::Retry { delay: A_DAY }, "retry", true),
        1 => (Outcome::Archive, "archived", true),
        2 => (Outcome::Release, "pending", false),
        _ => {
            let word = if is_kept(&task.envelope.id) {
                "completed"
            } else {
                "gone"
            };
            (Outcome::Complete { result: None }, word, false)
        }
    };
    End {
        outcome,
        word,
        has_failed,
    }
}

fn failed(task: &Arc<Envelope>) -> Arc<Envelope> {
    let mut task = Envelope::clone(task);
    task.attempts += 1;
    let failure = Failure::new(
        task.attempts,
        task.enqueued_at,
        FailureKind::Error,
        "on purpose",
    );
    task.push_failure(failure);
    Arc::new(task)
}
