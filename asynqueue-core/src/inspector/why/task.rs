//! Why one task waits.

use std::time::Duration;

use super::{Cause, Delay, Estimate, queue::Scene};
use crate::{
    broker::{HourStats, LimitKind, Pause, QueueStats, ServerInfo, TaskInfo},
    statistics::EventStats,
    task::{TaskRef, TaskState, Timestamp},
};

/// Why a task waits.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TaskWait {
    /// The task.
    pub task: TaskRef,
    /// Its state.
    pub state: TaskState,
    /// The causes, gravest first. Empty if the task does not wait: it is active, completed or archived.
    pub causes: Vec<Cause>,
}

/// Everything that the causes of a task depend on, except for its turn.
pub(super) struct Known<'a> {
    pub(super) task: &'a TaskInfo,
    pub(super) stats: &'a QueueStats,
    pub(super) servers: &'a [ServerInfo],
    pub(super) pause: Option<Pause>,
    pub(super) now: Timestamp,
}

impl Known<'_> {
    /// The causes, and whether the task also waits for its turn.
    pub(super) fn causes(self) -> (Vec<Cause>, bool) {
        let state = self.task.state;
        if matches!(
            state,
            TaskState::Active | TaskState::Completed | TaskState::Archived
        ) {
            return (Vec::new(), false);
        }
        let task = &self.task.envelope;
        let scene = Scene::new(&task.queue, self.servers, Some(&task.event), self.now);
        let due = self.task.at.filter(|due| *due > self.now);
        let mut causes = Vec::new();
        if self.stats.paused {
            causes.push(Cause::Paused { pause: self.pause });
        }
        let mut limits = Vec::new();
        if let Some(due) = due.filter(|_| state != TaskState::Aggregating) {
            let is_released = task.unhandled_since().is_some() && !scene.is_handled();
            if task.place().is_some() && state == TaskState::Scheduled {
                limits = scene.limits(
                    |limit| limit.events.contains(&task.event) && is_in_use(limit),
                    Some(due),
                );
            }
            if limits.is_empty() && !is_released {
                let until = delay(state, task.place().is_some());
                causes.push(Cause::NotDue { due, until });
            }
        }
        if state == TaskState::Aggregating {
            let group = task.options.group.clone().unwrap_or_else(|| "".into());
            causes.push(Cause::Grouped { group });
        }
        causes.extend(scene.no_server());
        if !scene.any_working() {
            return (causes, false);
        }
        if !scene.is_handled() && state != TaskState::Aggregating {
            let event = task.event.clone();
            causes.push(Cause::NoHandler { event, tasks: None });
            return (causes, false);
        }
        let is_ready = due.is_none() && state != TaskState::Aggregating;
        if is_ready {
            causes.extend(scene.full());
        }
        causes.extend(limits);
        if is_ready {
            causes.extend(scene.away());
        }
        (causes, is_ready && !self.stats.paused)
    }
}

/// Whether tasks wait for a limit, or all its places are taken.
fn is_in_use(limit: &crate::broker::LimitInfo) -> bool {
    limit.waiting > 0 || limit.used >= limit.max || limit.kind == LimitKind::Other
}

fn delay(state: TaskState, has_place: bool) -> Delay {
    match state {
        TaskState::Retry => Delay::Retry,
        _ if has_place => Delay::Limit,
        _ => Delay::Scheduled,
    }
}

/// How many attempts have ended in the recent past: at least one.
pub(super) struct Rate {
    ended: u64,
    within: Duration,
}

/// The current hour counts alone once it has lasted this long.
const ENOUGH: Duration = Duration::from_secs(600);

impl Rate {
    /// When a task starts that has these tasks ahead, if its queue continues at this rate.
    pub(super) fn start_after(&self, ahead: u64, now: Timestamp) -> Estimate {
        let Self { ended, within } = *self;
        Estimate {
            at: now + within.mul_f64(ahead as f64 / ended as f64),
            ended,
            within,
        }
    }

    /// Since the first of these minutes. `None` if it has not lasted for a minute yet.
    pub(super) fn of_minutes(
        minutes: impl Iterator<Item = (Timestamp, EventStats)>,
        now: Timestamp,
    ) -> Option<Self> {
        let (mut ended, mut first) = (0, now);
        for (at, stats) in minutes {
            ended += stats.succeeded + stats.failed;
            first = first.min(at);
        }
        let within = now.since(first);
        (ended > 0 && within >= Duration::from_secs(60)).then_some(Self { ended, within })
    }

    /// In the current hour, and in the one before if that is short.
    pub(super) fn of_hours(history: &[HourStats], now: Timestamp) -> Option<Self> {
        let ended = |hour: &HourStats| hour.succeeded.saturating_add(hour.failed);
        let this_hour = now.as_millis() / HourStats::MILLIS * HourStats::MILLIS;
        let this_hour = Timestamp::from_millis(this_hour);
        let elapsed = now.since(this_hour);
        let current = history.iter().filter(|hour| hour.start >= this_hour);
        let current: u64 = current.map(ended).sum();
        if current > 0 && elapsed >= ENOUGH {
            let (ended, within) = (current, elapsed);
            return Some(Self { ended, within });
        }
        let ended = history.iter().map(ended).sum();
        let within = elapsed + Duration::from_millis(HourStats::MILLIS);
        (ended > 0).then_some(Self { ended, within })
    }
}
