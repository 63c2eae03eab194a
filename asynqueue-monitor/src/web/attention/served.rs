//! Tasks that no server runs.

use std::{cmp::Reverse, collections::BTreeMap};

use asynqueue_core::{
    broker::ServerInfo,
    inspector::{Filter, QueueInfo},
    task::{Name, TaskState},
};

use super::{Concern, Figures, Place, tasks};
use crate::web::show;

/// The number of queues without a server that are reported by themselves. The others share an entry, so that a system
/// with a queue for each tenant has no list of tenants.
const EACH: usize = 3;

/// The number of queues that the shared entry names.
const NAMED: usize = 3;

pub(super) fn add(figures: &Figures<'_>, all: &mut Vec<Concern>) {
    let pending: u64 = figures.queues.iter().map(Figures::pending).sum();
    if figures.running().next().is_none() {
        if pending > 0 {
            all.push(Concern {
                kind: "no_server",
                about: String::new(),
                weight: pending.saturating_mul(2),
                count: pending,
                queue: None,
                cause: None,
                place: Place::Servers,
                text: "Tasks are pending, but no server is running.".into(),
            });
        }
        return;
    }
    let queues = figures.queues.iter();
    let mut unserved: Vec<_> = queues
        .filter_map(|queue| unserved(figures, queue))
        .collect();
    unserved.sort_by_key(|concern| Reverse(concern.weight));
    if unserved.len() > EACH + 1 {
        let others = unserved.split_off(EACH);
        unserved.push(together(&others));
    }
    all.extend(unserved);
    all.extend(unhandled(figures));
}

/// A queue with pending tasks that no server leases from. A paused one is reported as paused.
fn unserved(figures: &Figures<'_>, queue: &QueueInfo) -> Option<Concern> {
    let pending = Figures::pending(queue);
    let takes = |server: &ServerInfo| !server.quiet && !server.stopping;
    if pending == 0 || queue.stats.paused || figures.takers(&queue.name).any(takes) {
        return None;
    }
    let why = match figures.takers(&queue.name).count() {
        0 => "no server takes from this queue".to_owned(),
        1 => "the only server that takes from this queue is quiet".to_owned(),
        count => format!(
            "all {} servers that take from this queue are quiet",
            show::number(count as u64)
        ),
    };
    let text = format!(
        "{why}: {} pending, the next one for {}.",
        tasks(pending),
        show::duration(queue.stats.latency)
    );
    let concern = Concern::of_queue("unserved_queue", &queue.name, TaskState::Pending, text);
    Some(concern.weighing(pending, pending))
}

/// Several queues that no server leases from.
fn together(queues: &[Concern]) -> Concern {
    let pending = queues.iter().map(|queue| queue.count).sum();
    let mut names: Vec<_> = queues
        .iter()
        .take(NAMED)
        .map(|queue| &*queue.about)
        .collect();
    let others = format!(
        "{} others",
        show::number((queues.len() - names.len()) as u64)
    );
    names.push(&others);
    Concern {
        kind: "unserved_queue",
        about: String::new(),
        weight: pending,
        count: pending,
        queue: None,
        cause: None,
        place: Place::Servers,
        text: format!(
            "No server takes from {} more queues with {} pending: {}.",
            show::number(queues.len() as u64),
            tasks(pending),
            names.join(", "),
        ),
    }
}

/// The tasks that servers released because no server that takes from their queue handles their event.
fn unhandled(figures: &Figures<'_>) -> Vec<Concern> {
    let mut waiting = BTreeMap::<(&Name, &Name), u64>::new();
    for released in figures.running().flat_map(|server| &server.unhandled) {
        let mut takers = figures.takers(&released.queue);
        if !takers.any(|server| server.events.contains(&released.event)) {
            let key = (&released.queue, &released.event);
            *waiting.entry(key).or_default() += released.tasks;
        }
    }
    let concern = |((queue, event), count): ((&Name, &Name), u64)| Concern {
        kind: "unhandled_event",
        about: format!("{queue} {event}"),
        weight: count,
        count,
        queue: Some(queue.clone()),
        cause: None,
        place: Place::Tasks {
            queue: queue.clone(),
            state: TaskState::Scheduled,
            filter: Filter::default().event(&**event).into(),
        },
        text: format!(
            "no running server handles `{}`: {} waiting. Start a server with a handler for it.",
            show::cut(event),
            tasks(count),
        ),
    };
    waiting.into_iter().map(concern).collect()
}
