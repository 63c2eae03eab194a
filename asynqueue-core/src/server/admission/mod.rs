//! Whether a task that was leased may start here. It is decided before the task takes a slot: what may not start goes
//! back to the broker, and neither an attempt nor its timeout is spent.

mod unhandled;

use std::{sync::Arc, time::Duration};

pub(super) use self::unhandled::Unhandled;
use super::{Shared, inbox::Job};
use crate::{
    broker::{Leased, Outcome, Settlement},
    layer::BoxProcess,
    metrics,
    task::{Envelope, Name, Timestamp},
};

/// How soon a task comes back that no process here handles. It comes back after as long as it has been unhandled, so
/// the wait doubles from the least to the most.
const LEAST_WAIT: Duration = Duration::from_secs(1);
const MOST_WAIT: Duration = Duration::from_secs(60);

impl Shared {
    /// Keeps the tasks that may start, and gives the others back.
    pub(super) fn receive(&self, jobs: Vec<Job>) -> Vec<Job> {
        // Most of a batch are of one event.
        let mut last: Option<(Name, Name, Option<&BoxProcess>)> = None;
        let admitted = jobs.into_iter().filter_map(|job| {
            let task = &job.leased.envelope;
            let process = match &last {
                Some((event, queue, process)) if *event == task.event && *queue == task.queue => {
                    *process
                }
                _ => {
                    let process = self.registry.of(task);
                    last = Some((task.event.clone(), task.queue.clone(), process));
                    process
                }
            };
            self.receive_one(job, process)
        });
        admitted.collect()
    }

    fn receive_one(&self, mut job: Job, process: Option<&BoxProcess>) -> Option<Job> {
        if process.is_some() {
            if job.leased.envelope.unhandled_since().is_some() {
                Arc::make_mut(&mut job.leased.envelope).set_unhandled_since(None);
            }
            return Some(job);
        }
        match self.give_back_unhandled(job.leased) {
            Ok(given_back) => {
                self.outbox.push(given_back);
                None
            }
            Err(leased) => Some(Job { leased, ..job }),
        }
    }

    /// Gives back a task whose event nothing here handles. `Err` has the task if its time is up, and it is to be
    /// archived instead.
    fn give_back_unhandled(&self, mut leased: Leased) -> Result<Settlement, Leased> {
        let now = self.broker.now().max(leased.now);
        if is_late(&leased.envelope, now) {
            return Err(leased);
        }
        let since = unhandled_since(&leased.envelope).unwrap_or(now);
        let unhandled = now.since(since);
        if unhandled >= self.settings.unknown_event_grace {
            return Err(leased);
        }
        // Spread, so that a whole backlog does not come back at one moment.
        let wait = unhandled.clamp(LEAST_WAIT, MOST_WAIT);
        let delay = wait.mul_f64(0.75 + rand::random::<f64>() / 2.0);
        let task = Arc::make_mut(&mut leased.envelope);
        task.set_unhandled_since(Some(since));
        let (event, queue) = (&task.event, &task.queue);
        metrics::unhandled(queue);
        if self.unhandled.note(queue, event, now, now + delay) {
            tracing::warn!(%event, %queue, grace = ?self.settings.unknown_event_grace,
                "no process of this server handles the event: its tasks go back to the queue for other servers, and are \
                 archived when the grace is over; mount a process for it, or give the event a queue of its own");
        }
        Ok(leased.settle(Outcome::Snooze { delay }))
    }

    /// Why a task is archived whose event nothing here handles.
    pub(super) fn unhandled_for(&self, task: &Envelope, now: Timestamp) -> String {
        let event = &task.event;
        match unhandled_since(task) {
            Some(since) => {
                let unhandled = Duration::from_secs(now.since(since).as_secs());
                format!(
                    "no process is registered for event `{event}`, and no other server has taken the task in {unhandled:?}"
                )
            }
            None => format!("no process is registered for event `{event}`"),
        }
    }
}

/// Since when a task is unhandled. What was archived and is run again has the whole grace before it.
fn unhandled_since(task: &Envelope) -> Option<Timestamp> {
    let archived = task.last_failure().map(|failure| failure.at);
    let since = task.unhandled_since()?;
    archived.is_none_or(|archived| archived <= since).then_some(since)
}

/// Whether it is too late to start a task.
fn is_late(task: &Envelope, now: Timestamp) -> bool {
    let is_over = |time: Option<Timestamp>| time.is_some_and(|time| time <= now);
    is_over(task.deadline) || is_over(task.expires_at())
}
