//! Decides whether a leased task may start here, before it takes a slot. A task that may not start returns to the
//! broker without spending an attempt or its timeout.
//!
//! A task may not start if its event has no handler here (`unhandled`), or if it is over a limit of its handler
//! (`limits`).

mod limits;
mod unhandled;

use std::{sync::Arc, time::Duration};

pub(super) use self::unhandled::Unhandled;
use super::{Shared, inbox::Job};
use crate::{
    layer::BoxProcess,
    task::{Envelope, Name, Timestamp},
};

/// A batch after admission.
pub(super) struct Received {
    /// The tasks that may start.
    pub(super) jobs: Vec<Job>,
    /// How many were released because their event has no handler here.
    pub(super) unhandled: usize,
}

impl Shared {
    /// Returns the tasks that may start now. The others wait at a limit, or return to the broker.
    pub(super) fn receive(self: &Arc<Self>, jobs: Vec<Job>) -> Received {
        let (now, mut unhandled) = (self.broker.now(), 0);
        // Most tasks of a batch have the same event.
        let mut last: Option<(Name, Name, Option<&BoxProcess>)> = None;
        let received = jobs.into_iter().filter_map(|job| {
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
            let Some(job) = self.known(job, process, now) else {
                unhandled += 1;
                return None;
            };
            match process {
                Some(process) if !process.gates().is_empty() => {
                    self.admit_or_hold(job, process.gates(), now)
                }
                _ => Some(job),
            }
        });
        let jobs = received.collect();
        Received { jobs, unhandled }
    }

    /// Receives a task that runs in the foreground, waiting if it may start soon.
    #[cfg(feature = "testing")]
    pub(super) async fn receive_alone(&self, job: Job) -> Option<Job> {
        let process = self.registry.of(&job.leased.envelope);
        let now = self.broker.now();
        let job = self.known(job, process, now)?;
        match process {
            Some(process) => self.wait_for_admission(job, process.gates(), now).await,
            None => Some(job),
        }
    }

    /// Passes a task that has a handler here or has run out of time. Releases all others.
    fn known(&self, mut job: Job, process: Option<&BoxProcess>, now: Timestamp) -> Option<Job> {
        if process.is_some() {
            if job.leased.envelope.unhandled_since().is_some() {
                Arc::make_mut(&mut job.leased.envelope).set_unhandled_since(None);
            }
            return Some(job);
        }
        match self.release_unhandled(job.leased, now) {
            Ok(released) => {
                self.outbox.push(released);
                None
            }
            Err(leased) => Some(Job { leased, ..job }),
        }
    }
}

/// How much longer a task may start; zero if it is too late, `None` if there is no limit.
fn time_left(task: &Envelope, now: Timestamp) -> Option<Duration> {
    task.latest_start().map(|end| end.since(now))
}

fn is_late(task: &Envelope, now: Timestamp) -> bool {
    time_left(task, now).is_some_and(|left| left.is_zero())
}
