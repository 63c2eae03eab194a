//! Tasks that wait although servers could run them.

use std::time::Duration;

use asynqueue_core::{inspector::QueueInfo, task::TaskState};

use super::{Concern, Figures, tasks};
use crate::web::show;

/// The latency above which a queue counts as slow.
const SLOW: Duration = Duration::from_secs(300);

pub(super) fn add(figures: &Figures<'_>, all: &mut Vec<Concern>) {
    for queue in figures.queues {
        if queue.stats.paused {
            all.extend(paused(queue));
        } else if figures.takers(&queue.name).next().is_some() {
            // Without a server that takes from the queue, this is the cause, and `served.rs` reports it.
            all.extend(slow(figures, queue));
        }
    }
}

/// A paused queue with tasks that would run.
fn paused(queue: &QueueInfo) -> Option<Concern> {
    let pending = Figures::pending(queue);
    let text = format!(
        "the queue is paused with {} pending, the next one for {}.",
        tasks(pending),
        show::duration(queue.stats.latency)
    );
    let concern = Concern::of_queue("paused_queue", &queue.name, TaskState::Pending, text);
    // Somebody paused it on purpose, so it weighs half of a queue that nobody serves.
    (pending > 0).then(|| concern.weighing(pending, pending / 2 + 1))
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
