//! Whether a task that was leased may start here. It is decided before the task takes a slot: what may not start goes
//! back to the broker, and neither an attempt nor its timeout is spent.
//!
//! A task may not start whose event nothing here handles (`unhandled`), or that is over a limit of its process
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
    /// What may start.
    pub(super) jobs: Vec<Job>,
    /// How many went back because nothing here handles them.
    pub(super) unhandled: usize,
}

impl Shared {
    /// Keeps the tasks that may start now. The others wait at a limit, or go back.
    pub(super) fn receive(self: &Arc<Self>, jobs: Vec<Job>) -> Received {
        let (now, mut unhandled) = (self.broker.now(), 0);
        // Most of a batch are of one event.
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
                    self.let_in_or_hold(job, process.gates(), now)
                }
                _ => Some(job),
            }
        });
        let jobs = received.collect();
        Received { jobs, unhandled }
    }

    /// Receives a task that runs in the foreground: what may start soon is waited for.
    #[cfg(feature = "testing")]
    pub(super) async fn receive_alone(&self, job: Job) -> Option<Job> {
        let process = self.registry.of(&job.leased.envelope);
        let now = self.broker.now();
        let job = self.known(job, process, now)?;
        match process {
            Some(process) => self.wait_to_be_let_in(job, process.gates(), now).await,
            None => Some(job),
        }
    }

    /// Lets a task pass that a process here handles, or whose time is up; gives others back.
    fn known(&self, mut job: Job, process: Option<&BoxProcess>, now: Timestamp) -> Option<Job> {
        if process.is_some() {
            if job.leased.envelope.unhandled_since().is_some() {
                Arc::make_mut(&mut job.leased.envelope).set_unhandled_since(None);
            }
            return Some(job);
        }
        match self.give_back_unhandled(job.leased, now) {
            Ok(given_back) => {
                self.outbox.push(given_back);
                None
            }
            Err(leased) => Some(Job { leased, ..job }),
        }
    }
}

/// How long a task may still start; `None` if it has no latest start. Zero if it is too late.
fn time_left(task: &Envelope, now: Timestamp) -> Option<Duration> {
    task.latest_start().map(|end| end.since(now))
}

fn is_late(task: &Envelope, now: Timestamp) -> bool {
    time_left(task, now).is_some_and(|left| left.is_zero())
}
