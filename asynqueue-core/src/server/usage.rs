//! How much of its queues and limits a server uses, for its report to the fleet.

use std::{collections::BTreeSet, sync::Arc};

use super::Shared;
use crate::{
    broker::{LimitInfo, LimitKind, QueueUse},
    layer::Gate,
    task::{Name, Timestamp},
};

impl Shared {
    /// The queues with a limit or with tasks here.
    pub(super) fn queue_use(&self) -> Vec<QueueUse> {
        let limits = self.queue_limits.iter().enumerate();
        let uses = limits.map(|(queue, max)| QueueUse {
            queue: self.queue_names[queue].clone(),
            running: self.inbox.load_of(queue) as u64,
            max: max.map(|max| max as u64),
        });
        uses.filter(|queue| queue.running > 0 || queue.max.is_some())
            .collect()
    }

    /// The limits of the handlers, each with all events that it limits.
    pub(super) fn limits(&self, now: Timestamp) -> Vec<LimitInfo> {
        let mut limits: Vec<(Arc<Gate>, BTreeSet<Name>)> = Vec::new();
        for (event, process) in self.registry.processes() {
            for gate in process.gates().iter() {
                let known = limits
                    .iter_mut()
                    .find(|(known, _)| Arc::ptr_eq(known, gate));
                match known {
                    Some((_, events)) => drop(events.insert(event.clone())),
                    None => limits.push((Arc::clone(gate), BTreeSet::from([event.clone()]))),
                }
            }
        }
        let mut limits: Vec<_> = limits
            .into_iter()
            .map(|(gate, events)| report(&gate, events, now))
            .collect();
        limits.sort_by(|a, b| (&a.events, a.max).cmp(&(&b.events, b.max)));
        limits
    }
}

fn report(gate: &Gate, events: BTreeSet<Name>, now: Timestamp) -> LimitInfo {
    let usage = gate.usage(now);
    LimitInfo {
        kind: match usage.period {
            Some(_) => LimitKind::Rate,
            None => LimitKind::Concurrency,
        },
        events: events.into_iter().collect(),
        max: usage.max,
        period: usage.period,
        used: usage.used,
        waiting: usage.waiting,
        queues: usage.queues,
        next: usage.next.map(|wait| now + wait),
    }
}
