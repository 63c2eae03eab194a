//! Tasks that wait although servers could run them.

use std::time::Duration;

use asynqueue_core::{
    inspector::{Cause, QueueInfo, QueueWait},
    task::TaskState,
};

use super::{Concern, Figures, tasks};
use crate::web::show;

/// The latency above which a queue counts as slow.
const SLOW: Duration = Duration::from_secs(300);

/// The latency above which a full limit of a queue is reported.
const HELD: Duration = Duration::from_secs(60);

/// A limit of a handler is reported if as many tasks wait as it allows in this number of rounds.
const ROUNDS: u64 = 10;

pub(super) fn add(figures: &Figures<'_>, all: &mut Vec<Concern>) {
    for queue in figures.queues {
        if queue.stats.paused {
            all.extend(paused(figures, queue));
        } else if figures.takers(&queue.name).next().is_some() {
            // Without a server that takes from the queue, this is the cause, and `served.rs` reports it.
            all.extend(limited(figures, queue).or_else(|| slow(figures, queue)));
        }
    }
}

/// A paused queue with tasks that would run.
fn paused(figures: &Figures<'_>, queue: &QueueInfo) -> Option<Concern> {
    let pause = figures.pauses.get(&queue.name).cloned();
    let wait = QueueWait::new(
        &queue.name,
        &queue.stats,
        figures.servers,
        pause,
        figures.now,
    );
    let why = wait.causes.first()?.describe(figures.now);
    let pending = Figures::pending(queue);
    let text = format!(
        "{why}, with {} pending, the next one for {}.",
        tasks(pending),
        show::duration(queue.stats.latency)
    );
    let concern = Concern::of_queue("paused_queue", &queue.name, TaskState::Pending, text);
    // Somebody paused it on purpose, so it weighs half of a queue that nobody serves.
    (pending > 0).then(|| concern.weighing(pending, pending / 2 + 1))
}

/// A queue whose tasks a limit holds back for long.
fn limited(figures: &Figures<'_>, queue: &QueueInfo) -> Option<Concern> {
    let (pending, latency) = (Figures::pending(queue), queue.stats.latency);
    let wait = QueueWait::new(
        &queue.name,
        &queue.stats,
        figures.servers,
        None,
        figures.now,
    );
    let held = wait.causes.iter().find_map(|cause| match cause {
        Cause::QueueLimit { .. } if latency > HELD => Some((cause, pending, TaskState::Pending)),
        Cause::Limit { limit, .. } if limit.waiting >= ROUNDS.saturating_mul(limit.max) => {
            Some((cause, limit.waiting, TaskState::Scheduled))
        }
        _ => None,
    });
    let (cause, count, state) = held?;
    let text = match cause {
        // Its description has the number of tasks.
        Cause::Limit { .. } => format!("{}.", cause.describe(figures.now)),
        _ => format!("{}: {} waiting.", cause.describe(figures.now), tasks(count)),
    };
    let concern = Concern::of_queue("limited_queue", &queue.name, state, text);
    Some(concern.weighing(count, count / 4 + 1))
}

/// A queue whose next task has been pending for too long, or whose backlog grows.
fn slow(figures: &Figures<'_>, queue: &QueueInfo) -> Option<Concern> {
    let (pending, latency) = (Figures::pending(queue), queue.stats.latency);
    let (kind, text, weight) = if latency > SLOW {
        let text = format!(
            "the next task has been pending for {}, and {} behind it.",
            show::duration(latency),
            match pending.saturating_sub(1) {
                1 => "1 is".to_owned(),
                others => format!("{} are", show::number(others)),
            }
        );
        ("slow_queue", text, pending / 4 + 1)
    } else if figures.growing.contains(&queue.name) {
        let text = format!(
            "the backlog has been growing for a minute: {} pending.",
            tasks(pending)
        );
        ("growing_queue", text, pending / 8 + 1)
    } else {
        return None;
    };
    let concern = Concern::of_queue(kind, &queue.name, TaskState::Pending, text);
    Some(concern.weighing(pending, weight))
}
