//! Cancelling, pausing, waiting.

use std::sync::{Arc, atomic::Ordering};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::{
    MemoryBroker,
    queue::Queue,
    table::{Place, Record},
};
use crate::{
    broker::{
        BrokerError, CancelOutcome, Control, Finished, Lease, Move, Replacement, Signal, Signals,
    },
    process::Progress,
    task::{Envelope, Name, TaskId, TaskRef, TaskState, Timestamp},
};

#[async_trait]
impl Control for MemoryBroker {
    async fn signals(&self, queues: &[Name]) -> Result<Signals, BrokerError> {
        self.open()?;
        let (listener, signals) = mpsc::unbounded_channel();
        for name in queues {
            self.queue(name).lock().listeners.listen(listener.clone());
        }
        // Again, for whoever closes it hangs up on those who listen by then.
        self.open()?;
        let next = |mut signals: mpsc::UnboundedReceiver<_>| async {
            signals.recv().await.map(|signal| (signal, signals))
        };
        Ok(stream::unfold(signals, next).boxed())
    }

    async fn cancel(
        &self,
        tasks: &[TaskRef],
        reason: &str,
    ) -> Result<Vec<CancelOutcome>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        Ok(self.each_in_queue(
            tasks,
            |task| &task.queue,
            |queue, task| queue.cancel(task, reason, now),
        ))
    }

    async fn finished(&self, task: &TaskRef) -> Result<Finished, BrokerError> {
        self.open()?;
        let Some(queue) = self.known(&task.queue) else {
            return Ok(Finished::Gone);
        };
        let finished = {
            let mut queue = queue.lock();
            // Again, for whoever closes it hangs up on those who wait by then.
            self.open()?;
            match queue.tasks.get(&task.id) {
                None => return Ok(Finished::Gone),
                Some(record) => match end_of(record) {
                    Some(finished) => return Ok(finished),
                    None => queue.listeners.wait(&task.id),
                },
            }
        };
        // The sender lives as long as the queue does.
        finished.await.map_err(|_| BrokerError::Closed)
    }

    async fn report(&self, progress: Vec<(Lease, Progress)>) -> Result<(), BrokerError> {
        self.open()?;
        self.each_in_queue(
            progress,
            |(lease, _)| &lease.task.queue,
            |queue, (lease, progress)| {
                let record = queue.tasks.get_mut(&lease.task.id);
                if let Some(activity) = record.and_then(|record| record.lease(lease.token)) {
                    activity.progress = Some(progress);
                }
            },
        );
        Ok(())
    }

    async fn set_paused(&self, queues: &[Name], paused: bool) -> Result<(), BrokerError> {
        self.open()?;
        self.each_in_queue(queues, |name| name, |queue, _| queue.set_paused(paused));
        Ok(())
    }

    async fn delete(&self, tasks: &[TaskRef]) -> Result<Vec<bool>, BrokerError> {
        self.open()?;
        Ok(self.each_in_queue(
            tasks,
            |task| &task.queue,
            |queue, task| queue.delete(&task.id),
        ))
    }

    async fn run_now(&self, tasks: &[TaskRef]) -> Result<Vec<bool>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        Ok(self.each_in_queue(
            tasks,
            |task| &task.queue,
            |queue, task| queue.run_now(&task.id, now),
        ))
    }

    async fn replace(&self, changes: Vec<Replacement>) -> Result<Vec<bool>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        Ok(self.each_in_queue(
            changes,
            |change| &change.seen.queue,
            |queue, change| queue.replace(&change, now),
        ))
    }

    async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError> {
        self.open()?;
        Ok(self
            .known(queue)
            .is_none_or(|queue| queue.lock().clear(force)))
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.open()
    }

    async fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        // Dropping the queues' senders ends the streams of signals and those who wait for results.
        for queue in self.0.queues.read().values() {
            queue.lock().listeners.hang_up();
        }
    }
}

/// How a task came to its end, if it has.
fn end_of(record: &Record) -> Option<Finished> {
    match &record.place {
        Place::Completed(kept) => Some(Finished::Completed {
            result: kept.result.clone(),
            codec: record.envelope.codec.clone(),
        }),
        Place::Archived(_) => {
            let failure = record.envelope.last_failure().cloned().map(Box::new);
            Some(Finished::Archived { failure })
        }
        _ => None,
    }
}

/// A task as it is to run: with its times [renewed](Envelope::renewed), if they are over.
fn renewed(envelope: &Arc<Envelope>, now: Timestamp) -> Arc<Envelope> {
    let renewed = envelope.renewed(now);
    renewed.map_or_else(|| Arc::clone(envelope), Arc::new)
}

impl Queue {
    fn cancel(&mut self, task: &TaskRef, reason: &str, now: Timestamp) -> CancelOutcome {
        let Some(record) = self.tasks.get_mut(&task.id) else {
            return CancelOutcome::NotFound;
        };
        match &mut record.place {
            Place::Completed(_) | Place::Archived(_) => CancelOutcome::AlreadyFinished,
            Place::Active(activity) => {
                activity.cancel.get_or_insert_with(|| reason.to_owned());
                self.listeners.signal(&Signal::Cancel(task.clone()));
                CancelOutcome::Requested
            }
            Place::Pending(_) | Place::Scheduled(_) | Place::Retry(_) | Place::Aggregating(_) => {
                let envelope = record.envelope.clone();
                self.unlist(&task.id);
                self.archive_cancelled(&envelope, reason, now);
                CancelOutcome::Cancelled
            }
        }
    }

    fn delete(&mut self, id: &TaskId) -> bool {
        match self.tasks.get(id) {
            None => true,
            Some(record) if record.state() == TaskState::Active => false,
            Some(record) => {
                let envelope = record.envelope.clone();
                self.unlist(id);
                self.forget(&envelope);
                true
            }
        }
    }

    fn run_now(&mut self, id: &TaskId, now: Timestamp) -> bool {
        let Some(record) = self.tasks.get_mut(id) else {
            return false;
        };
        let envelope = renewed(&record.envelope, now);
        let may_run = match record.place {
            Place::Pending(_) => {
                record.envelope = envelope;
                return true;
            }
            Place::Scheduled(_) | Place::Retry(_) | Place::Aggregating(_) => true,
            // It gave its lock back when it was archived.
            Place::Archived(_) => self.lock_again(&envelope, now),
            Place::Active(_) | Place::Completed(_) => false,
        };
        if may_run {
            self.move_as(&envelope, Move::Pending, now);
        }
        may_run
    }

    /// Puts a new version of a task in the place of the old one, somewhere else.
    fn move_as(&mut self, envelope: &Arc<Envelope>, to: Move, now: Timestamp) {
        self.unlist(&envelope.id);
        if let Some(record) = self.tasks.get_mut(&envelope.id) {
            record.envelope = Arc::clone(envelope);
        }
        match to {
            Move::Pending => self.make_pending(envelope, now),
            Move::Scheduled(at) if at <= now => self.make_pending(envelope, now),
            Move::Scheduled(at) => self.schedule(envelope, at),
            Move::Archived => self.archive(envelope, now),
        }
    }

    fn replace(&mut self, change: &Replacement, now: Timestamp) -> bool {
        let id = &change.seen.id;
        let Some(record) = self.tasks.get_mut(id) else {
            return false;
        };
        let is_as_seen = record.state() == change.state && record.envelope == change.seen;
        let may_change = !matches!(record.place, Place::Active(_) | Place::Completed(_));
        if !is_as_seen || !may_change {
            return false;
        }
        let Some(to) = change.to else {
            record.envelope = change.envelope.clone();
            return true;
        };
        let leaves_archive = change.state == TaskState::Archived && to != Move::Archived;
        if leaves_archive && !self.lock_again(&change.envelope, now) {
            return false;
        }
        match to {
            Move::Archived => self.move_as(&change.envelope, to, now),
            _ => self.move_as(&renewed(&change.envelope, now), to, now),
        }
        true
    }

    /// Forgets all there is, if there are no tasks or it is forced. Those who listen go on.
    fn clear(&mut self, force: bool) -> bool {
        if self.tasks.len() > 0 && !force {
            return false;
        }
        let mut listeners = std::mem::take(&mut self.listeners);
        for record in self.tasks.iter() {
            listeners.tell(&record.envelope.id, || Finished::Gone);
        }
        *self = Self {
            listeners,
            // So that no lease of before is taken for one of then.
            last_token: self.last_token,
            ..Self::new(self.name.clone())
        };
        true
    }

    fn set_paused(&mut self, paused: bool) {
        let resumed = self.paused && !paused;
        self.paused = paused;
        self.signal_pending(resumed && self.pending.len() > 0);
    }
}
