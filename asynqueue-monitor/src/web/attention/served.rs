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
    if figures.running().next().is_none() {
        all.extend(no_server(figures));
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

/// The tasks of queues that only a server can move on.
#[derive(Clone, Copy, Default)]
struct Left {
    pending: u64,
    /// The tasks of servers that were lost: another server of their queue reclaims them.
    active: u64,
    /// Tasks that are or become due. Some brokers make them pending only when a server leases from their queue, so a
    /// queue without a server may have overdue tasks, and none that is pending.
    later: u64,
}

impl Left {
    fn in_queue(queue: &QueueInfo) -> Self {
        let count = |state| queue.stats.count(state);
        Self {
            pending: Figures::pending(queue),
            active: count(TaskState::Active),
            later: count(TaskState::Scheduled) + count(TaskState::Retry),
        }
    }

    fn all(self) -> u64 {
        self.pending + self.active + self.later
    }

    /// Tasks that may not be due for long weigh less.
    fn weight(self) -> u64 {
        self.pending + self.active + self.later.div_ceil(4)
    }

    /// The state of the gravest of these tasks.
    fn state(self, queue: &QueueInfo) -> TaskState {
        let count = |state| queue.stats.count(state);
        if self.pending > 0 {
            TaskState::Pending
        } else if self.active > 0 {
            TaskState::Active
        } else if count(TaskState::Retry) > count(TaskState::Scheduled) {
            TaskState::Retry
        } else {
            TaskState::Scheduled
        }
    }

    /// The numbers other than that of the pending tasks.
    fn others(self) -> Vec<String> {
        let active = || format!("{} active on lost servers", tasks(self.active));
        let later = || format!("{} scheduled or waiting for a retry", tasks(self.later));
        let active = (self.active > 0).then(active);
        active
            .into_iter()
            .chain((self.later > 0).then(later))
            .collect()
    }
}

/// No server runs at all.
fn no_server(figures: &Figures<'_>) -> Option<Concern> {
    let sum = |sum: Left, queue| {
        let left = Left::in_queue(queue);
        Left {
            pending: sum.pending + left.pending,
            active: sum.active + left.active,
            later: sum.later + left.later,
        }
    };
    let left = figures.queues.iter().fold(Left::default(), sum);
    let text = match left.pending {
        0 => format!("No server is running: {}.", left.others().join(", ")),
        _ => "Tasks are pending, but no server is running.".to_owned(),
    };
    let concern = Concern {
        kind: "no_server",
        about: String::new(),
        weight: left.weight().saturating_mul(2),
        count: if left.pending > 0 {
            left.pending
        } else {
            left.all()
        },
        queue: None,
        cause: None,
        place: Place::Servers,
        covers: Vec::new(),
        text,
    };
    (left.all() > 0).then_some(concern)
}

/// A queue with tasks that no server leases from. A paused one is reported as paused.
fn unserved(figures: &Figures<'_>, queue: &QueueInfo) -> Option<Concern> {
    let takes = |server: &ServerInfo| !server.quiet && !server.stopping;
    if queue.stats.paused || figures.takers(&queue.name).any(takes) {
        return None;
    }
    let takers = figures.takers(&queue.name).count();
    let mut left = Left::in_queue(queue);
    if takers > 0 {
        // A quiet server finishes what it runs, and is quiet for a short time.
        (left.active, left.later) = (0, 0);
    }
    let why = match takers {
        0 => "no server takes from this queue".to_owned(),
        1 => "the only server that takes from this queue is quiet".to_owned(),
        count => format!(
            "all {} servers that take from this queue are quiet",
            show::number(count as u64)
        ),
    };
    let latency = show::duration(queue.stats.latency);
    let pending = || {
        let pending = tasks(left.pending);
        format!("{pending} pending, the next one for {latency}")
    };
    let pending = (left.pending > 0).then(pending);
    let numbers: Vec<_> = pending.into_iter().chain(left.others()).collect();
    let text = format!("{why}: {}.", numbers.join("; "));
    let concern = Concern::of_queue("unserved_queue", &queue.name, left.state(queue), text);
    (left.all() > 0).then(|| concern.weighing(left.all(), left.weight()))
}

/// Several queues that no server leases from.
fn together(queues: &[Concern]) -> Concern {
    let count = queues.iter().map(|queue| queue.count).sum();
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
        weight: queues.iter().map(|queue| queue.weight).sum(),
        count,
        queue: None,
        cause: None,
        place: Place::Servers,
        covers: queues.iter().map(Concern::owned_key).collect(),
        text: format!(
            "No server takes from {} more queues with {}: {}.",
            show::number(queues.len() as u64),
            tasks(count),
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
        covers: Vec::new(),
        text: format!(
            "no running server handles `{}`: {} waiting. Start a server with a handler for it.",
            show::cut(event),
            tasks(count),
        ),
    };
    waiting.into_iter().map(concern).collect()
}
