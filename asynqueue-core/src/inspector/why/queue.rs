//! Why the tasks of a queue wait.

use std::collections::BTreeMap;

use super::{Cause, Taker};
use crate::{
    broker::{LimitKind, Pause, QueueStats, ServerInfo},
    task::{Name, TaskRef, TaskState, Timestamp},
};

/// Why the tasks of a queue wait, and which servers take from it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct QueueWait {
    /// The queue.
    pub queue: Name,
    /// How many tasks are pending.
    pub pending: u64,
    /// The servers that take from it, by name.
    pub takers: Vec<Taker>,
    /// The causes, gravest first. Empty if nothing waits and nothing would prevent a task from starting.
    pub causes: Vec<Cause>,
}

/// What is known of a queue and its servers at one moment.
pub(super) struct Scene<'a> {
    pub(super) queue: &'a Name,
    pub(super) servers: &'a [ServerInfo],
    pub(super) takers: Vec<Taker>,
    /// Only tasks of this event matter.
    pub(super) event: Option<&'a Name>,
}

impl QueueWait {
    /// The causes by these figures and reports, without reading anything. `pause` is needed only if the queue is paused.
    pub fn new(
        queue: &Name,
        stats: &QueueStats,
        servers: &[ServerInfo],
        pause: Option<Pause>,
        now: Timestamp,
    ) -> Self {
        let scene = Scene::new(queue, servers, None, now);
        let pending = stats.count(TaskState::Pending);
        let mut causes = Vec::new();
        if stats.paused {
            causes.push(Cause::Paused { pause });
        }
        causes.extend(scene.no_server());
        if scene.any_working() {
            causes.extend(scene.unhandled());
            if pending > 0 {
                causes.extend(scene.full());
            }
            causes.extend(scene.limits(|limit| limit.queues.contains(queue), None));
            if pending > 0 {
                causes.extend(scene.away());
            }
            if pending > 0 && !stats.paused {
                causes.push(Cause::Pending {
                    tasks: pending,
                    latency: stats.latency,
                });
            }
        }
        Self {
            queue: queue.clone(),
            pending,
            takers: scene.takers,
            causes,
        }
    }
}

impl<'a> Scene<'a> {
    pub(super) fn new(
        queue: &'a Name,
        servers: &'a [ServerInfo],
        event: Option<&'a Name>,
        now: Timestamp,
    ) -> Self {
        let takers = servers.iter();
        let mut takers: Vec<_> = takers
            .filter_map(|server| Taker::of(server, queue, now))
            .collect();
        takers.sort_by(|a, b| a.server.cmp(&b.server));
        Self {
            queue,
            servers,
            takers,
            event,
        }
    }

    /// The reports of the working servers that take from the queue, with those that handle the event.
    fn working(&self) -> impl Iterator<Item = (&'a ServerInfo, &Taker)> {
        let servers = self.servers.iter();
        servers.filter_map(|server| {
            let mut takers = self.takers.iter();
            let taker = takers.find(|taker| taker.server == server.name && taker.is_working())?;
            Some((server, taker))
        })
    }

    /// The working servers that take from the queue and handle the event.
    fn useful(&self) -> impl Iterator<Item = (&'a ServerInfo, &Taker)> {
        let handles =
            |server: &ServerInfo| self.event.is_none_or(|event| server.events.contains(event));
        self.working().filter(move |(server, _)| handles(server))
    }

    pub(super) fn any_working(&self) -> bool {
        self.working().next().is_some()
    }

    pub(super) fn is_handled(&self) -> bool {
        self.useful().next().is_some()
    }

    pub(super) fn no_server(&self) -> Option<Cause> {
        let away = || self.takers.clone();
        (!self.any_working()).then(|| Cause::NoServer { away: away() })
    }

    /// The events whose tasks servers have released, and that no working server handles.
    fn unhandled(&self) -> Vec<Cause> {
        let mut events: BTreeMap<&Name, u64> = BTreeMap::new();
        for (server, _) in self.working() {
            let unhandled = server.unhandled.iter();
            for tasks in unhandled.filter(|tasks| tasks.queue == *self.queue) {
                *events.entry(&tasks.event).or_default() += tasks.tasks;
            }
        }
        let is_handled = |event: &Name| {
            self.working()
                .any(|(server, _)| server.events.contains(event))
        };
        let unhandled = events.into_iter().filter(|(event, _)| !is_handled(event));
        let cause = |(event, tasks): (&Name, u64)| Cause::NoHandler {
            event: event.clone(),
            tasks: Some(tasks),
        };
        unhandled.map(cause).collect()
    }

    /// Why no working server has room. Nothing if one has.
    pub(super) fn full(&self) -> Vec<Cause> {
        let useful: Vec<_> = self.useful().collect();
        if useful
            .iter()
            .any(|(_, taker)| !taker.is_at_limit() && !taker.is_busy())
        {
            return Vec::new();
        }
        let (at_limit, busy): (Vec<_>, Vec<_>) = useful
            .into_iter()
            .partition(|(_, taker)| taker.is_at_limit());
        let takers =
            |of: &[(&ServerInfo, &Taker)]| of.iter().map(|(_, taker)| (*taker).clone()).collect();
        let mut causes = Vec::new();
        if !busy.is_empty() {
            let servers = takers(&busy);
            causes.push(Cause::Busy { servers });
        }
        if !at_limit.is_empty() {
            let reports = at_limit.iter().map(|(server, _)| *server);
            causes.push(Cause::QueueLimit {
                servers: takers(&at_limit),
                holders: holders(reports, |queue, _| queue == self.queue),
            });
        }
        causes
    }

    /// The limits of handlers that hold tasks back.
    pub(super) fn limits(
        &self,
        concerns: impl Fn(&crate::broker::LimitInfo) -> bool,
        due: Option<Timestamp>,
    ) -> Vec<Cause> {
        let mut causes = Vec::new();
        for (server, _) in self.useful() {
            for limit in server.limits.iter().filter(|limit| concerns(limit)) {
                let holds = |event: &Name| {
                    limit.kind == LimitKind::Concurrency && limit.events.contains(event)
                };
                let reports = std::iter::once(server);
                causes.push(Cause::Limit {
                    server: server.name.clone(),
                    limit: limit.clone(),
                    holders: holders(reports, |_, event| holds(event)),
                    due,
                });
            }
        }
        causes
    }

    /// The servers that are away while others work.
    pub(super) fn away(&self) -> Option<Cause> {
        let away = self.takers.iter().filter(|taker| !taker.is_working());
        let servers: Vec<_> = away.cloned().collect();
        (!servers.is_empty()).then_some(Cause::Away { servers })
    }
}

/// The running tasks that hold places, longest first, by their queue and event.
fn holders<'a>(
    servers: impl Iterator<Item = &'a ServerInfo>,
    holds: impl Fn(&Name, &Name) -> bool,
) -> Vec<TaskRef> {
    let running = servers.flat_map(|server| &server.running);
    let mut holders: Vec<_> = running
        .filter(|running| holds(&running.task.queue, &running.event))
        .collect();
    holders.sort_by_key(|running| running.started);
    holders.truncate(Cause::MAX_HOLDERS);
    holders
        .into_iter()
        .map(|running| running.task.clone())
        .collect()
}
