//! Whether a task that was leased may start here. It is decided before the task takes a slot: what may not start goes
//! back to the broker, and neither an attempt nor its timeout is spent.
//!
//! A task may not start whose event nothing here handles (`unhandled`), or that is over a limit of its process
//! (`limits`).

mod limits;
mod unhandled;

use std::sync::Arc;

pub(super) use self::unhandled::Unhandled;
use super::{Shared, inbox::Job};
use crate::{
    layer::BoxProcess,
    task::{Envelope, Name, Timestamp},
};

impl Shared {
    /// Keeps the tasks that may start now. The others wait at a limit, or go back.
    pub(super) fn receive(self: &Arc<Self>, jobs: Vec<Job>) -> Vec<Job> {
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
            let job = self.known(job, process)?;
            match process {
                Some(process) if !process.gates().is_empty() => {
                    self.let_in_or_hold(job, process.gates())
                }
                _ => Some(job),
            }
        });
        received.collect()
    }

    /// Receives a task that runs in the foreground: what may start soon is waited for.
    #[cfg(feature = "testing")]
    pub(super) async fn receive_alone(&self, job: Job) -> Option<Job> {
        let process = self.registry.of(&job.leased.envelope);
        let job = self.known(job, process)?;
        match process {
            Some(process) => self.wait_to_be_let_in(job, process.gates()).await,
            None => Some(job),
        }
    }

    /// Lets a task pass that a process here handles, or whose time is up; gives others back.
    fn known(&self, mut job: Job, process: Option<&BoxProcess>) -> Option<Job> {
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
}

/// Whether it is too late to start a task.
fn is_late(task: &Envelope, now: Timestamp) -> bool {
    let is_over = |time: Option<Timestamp>| time.is_some_and(|time| time <= now);
    is_over(task.deadline) || is_over(task.expires_at())
}
