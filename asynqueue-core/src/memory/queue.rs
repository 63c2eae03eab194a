//! One queue: every method is one atomic change of state, made under the queue's lock.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{
    table::{Activity, Completion, Place, Record, Table},
    waiting::{Pending, Timeline},
};
use crate::{
    broker::{
        Conflict, Extended, Finished, Keep, LeaseToken, Leased, NewTask, Outcome, Settled,
        Settlement, Signal, When,
    },
    task::{
        Envelope, Failure, FailureKind, Name, TaskId, TaskRef, TaskState, Timestamp, UniqueKey,
        UniqueUntil,
    },
};

/// The tasks of one queue. A task's [`Place`] and the list of its state always agree.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: Name,
    pub(super) tasks: Table,
    pub(super) pending: Pending,
    pub(super) scheduled: Timeline,
    pub(super) retry: Timeline,
    pub(super) active: Timeline,
    pub(super) completed: Timeline,
    pub(super) archived: Timeline,
    pub(super) paused: bool,
    /// Whether it has ever had a task.
    pub(super) was_used: bool,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    locks: HashMap<UniqueKey, HeldLock>,
    last_token: u64,
    listeners: Vec<mpsc::UnboundedSender<Signal>>,
    waiters: HashMap<TaskId, Vec<oneshot::Sender<Finished>>>,
}

#[derive(Debug)]
struct HeldLock {
    holder: TaskId,
    until: Timestamp,
}

impl Queue {
    pub(super) fn new(name: Name) -> Self {
        Self {
            name,
            tasks: Table::default(),
            pending: Pending::default(),
            scheduled: Timeline::default(),
            retry: Timeline::default(),
            active: Timeline::default(),
            completed: Timeline::default(),
            archived: Timeline::default(),
            paused: false,
            was_used: false,
            succeeded: 0,
            failed: 0,
            locks: HashMap::new(),
            last_token: 0,
            listeners: Vec::new(),
            waiters: HashMap::new(),
        }
    }

    pub(super) fn enqueue(&mut self, task: NewTask, now: Timestamp) -> Result<(), Conflict> {
        let NewTask { envelope, when } = task;
        if let Some(record) = self.tasks.get(&envelope.id) {
            return Err(Conflict::Id {
                task: envelope.task_ref(),
                state: record.state(),
            });
        }
        self.lock(&envelope, now)?;
        self.was_used = true;
        let envelope = Arc::new(envelope);
        let due = match when {
            When::Now => now,
            When::After(delay) => now + delay,
            When::At(time) => time,
        };
        self.tasks.insert(Record {
            envelope: Arc::clone(&envelope),
            place: Place::Pending(now),
        });
        if due > now {
            self.schedule(&envelope, due)
        } else {
            self.make_pending(&envelope, now)
        }
        Ok(())
    }

    pub(super) fn lease(
        &mut self,
        count: usize,
        now: Timestamp,
        lease: Duration,
        worker: &Name,
        leased: &mut Vec<Leased>,
    ) {
        if self.paused {
            return;
        }
        let until = now + lease;
        for _ in 0..count {
            let Some(envelope) = self.pending.pop() else {
                break;
            };
            self.last_token += 1;
            let token = LeaseToken(self.last_token);
            let activity = Activity {
                token,
                until,
                worker: worker.clone(),
                progress: None,
                cancel: None,
            };
            self.place(&envelope.id, Place::Active(activity.into()));
            self.unlock(&envelope, |until| until == UniqueUntil::Start);
            self.active.insert(until, envelope.id.clone());
            leased.push(Leased {
                envelope,
                token,
                now,
            });
        }
    }

    pub(super) fn extend(&mut self, id: &TaskId, token: LeaseToken, until: Timestamp) -> Extended {
        let Some(activity) = self
            .tasks
            .get_mut(id)
            .and_then(|record| record.lease(token))
        else {
            return Extended::Lost;
        };
        let before = std::mem::replace(&mut activity.until, until);
        let answer = if activity.cancel.is_some() {
            Extended::CancelRequested
        } else {
            Extended::Yes
        };
        self.active.remove(before, id.clone());
        self.active.insert(until, id.clone());
        answer
    }

    pub(super) fn settle(&mut self, settlement: &Settlement, now: Timestamp) -> Settled {
        let Settlement {
            envelope,
            token,
            outcome,
        } = settlement;
        let Some(record) = self.tasks.get_mut(&envelope.id) else {
            return Settled::Stale;
        };
        let Some(activity) = record.lease(*token) else {
            return Settled::Stale;
        };
        let (until, cancel) = (activity.until, activity.cancel.take());
        record.envelope = Arc::clone(envelope);
        self.active.remove(until, envelope.id.clone());
        match (outcome, cancel) {
            (Outcome::Complete { result }, _) => {
                self.succeeded += 1;
                self.complete(envelope, result.clone(), now);
            }
            (Outcome::Archive, _) => {
                self.failed += 1;
                self.archive(envelope, now);
            }
            (Outcome::Drop, _) => self.forget(envelope),
            (outcome, Some(reason)) => {
                self.failed += u64::from(matches!(outcome, Outcome::Retry { .. }));
                self.archive_cancelled(envelope, &reason, now);
            }
            (Outcome::Retry { delay }, None) => {
                self.failed += 1;
                self.retry_at(envelope, now, now + *delay);
            }
            (Outcome::Snooze { delay }, None) if delay.is_zero() => {
                self.make_pending(envelope, now)
            }
            (Outcome::Snooze { delay }, None) => self.schedule(envelope, now + *delay),
            (Outcome::Release, None) => self.give_back(envelope, now),
        }
        Settled::Recorded
    }

    pub(super) fn forward(&mut self, now: Timestamp, limit: usize) -> usize {
        let mut moved = 0;
        while moved < limit {
            let next = self
                .scheduled
                .pop_until(now)
                .or_else(|| self.retry.pop_until(now));
            let Some(envelope) = next.and_then(|id| self.envelope(&id)) else {
                break;
            };
            self.make_pending(&envelope, now);
            moved += 1;
        }
        moved
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        [self.scheduled.first_at(), self.retry.first_at()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn expired(&self, now: Timestamp, limit: usize, expired: &mut Vec<Leased>) {
        let ended = self
            .active
            .iter()
            .take_while(|(until, _)| *until <= now)
            .take(limit);
        for record in ended.filter_map(|(_, id)| self.tasks.get(id)) {
            if let Place::Active(activity) = &record.place {
                let envelope = Arc::clone(&record.envelope);
                expired.push(Leased {
                    envelope,
                    token: activity.token,
                    now,
                });
            }
        }
    }

    pub(super) fn trim(&mut self, now: Timestamp, keep: Keep, limit: usize) -> usize {
        let mut deleted = 0;
        while deleted < limit {
            let too_old = now - keep.archived_for;
            let next = if self.archived.len() > keep.archived_max {
                self.archived.pop_first()
            } else {
                self.completed
                    .pop_until(now)
                    .or_else(|| self.archived.pop_until(too_old))
            };
            let Some(id) = next else { break };
            self.tasks.remove(&id);
            deleted += 1;
        }
        self.locks.retain(|_, lock| lock.until > now);
        self.waiters
            .retain(|_, waiters| waiters.iter().any(|waiter| !waiter.is_closed()));
        self.tasks.shrink();
        self.pending.shrink();
        deleted
    }

    // The changes that the methods above and those of the control trait are made of.

    pub(super) fn envelope(&self, id: &TaskId) -> Option<Arc<Envelope>> {
        self.tasks
            .get(id)
            .map(|record| Arc::clone(&record.envelope))
    }

    /// Sets the place of a task that is known to be there.
    fn place(&mut self, id: &TaskId, place: Place) {
        self.tasks
            .get_mut(id)
            .expect("a listed task has a record")
            .place = place;
    }

    pub(super) fn make_pending(&mut self, envelope: &Arc<Envelope>, now: Timestamp) {
        self.place(&envelope.id, Place::Pending(now));
        let was_empty = self.pending.len() == 0;
        self.pending.push_back(Arc::clone(envelope));
        self.signal_pending(was_empty);
    }

    fn give_back(&mut self, envelope: &Arc<Envelope>, now: Timestamp) {
        self.place(&envelope.id, Place::Pending(now));
        let was_empty = self.pending.len() == 0;
        self.pending.push_front(Arc::clone(envelope));
        self.signal_pending(was_empty);
    }

    fn schedule(&mut self, envelope: &Arc<Envelope>, due: Timestamp) {
        self.place(&envelope.id, Place::Scheduled(due));
        self.signal_due(due);
        self.scheduled.insert(due, envelope.id.clone());
    }

    fn retry_at(&mut self, envelope: &Arc<Envelope>, now: Timestamp, due: Timestamp) {
        if due <= now {
            return self.make_pending(envelope, now);
        }
        self.place(&envelope.id, Place::Retry(due));
        self.signal_due(due);
        self.retry.insert(due, envelope.id.clone());
    }

    fn complete(&mut self, envelope: &Arc<Envelope>, result: Option<Bytes>, now: Timestamp) {
        self.unlock(envelope, |until| until != UniqueUntil::Window);
        self.tell(&envelope.id, || Finished::Completed {
            result: result.clone(),
            codec: envelope.codec.clone(),
        });
        if envelope.options.retention.is_zero() {
            self.tasks.remove(&envelope.id);
        } else {
            let until = now + envelope.options.retention;
            self.place(
                &envelope.id,
                Place::Completed(Completion { until, result }.into()),
            );
            self.completed.insert(until, envelope.id.clone());
        }
    }

    fn archive(&mut self, envelope: &Arc<Envelope>, now: Timestamp) {
        self.unlock(envelope, |until| until != UniqueUntil::Window);
        let failure = || envelope.last_failure().cloned().map(Box::new);
        self.tell(&envelope.id, || Finished::Archived { failure: failure() });
        self.place(&envelope.id, Place::Archived(now));
        self.archived.insert(now, envelope.id.clone());
    }

    /// Archives a task that is in no list.
    pub(super) fn archive_cancelled(
        &mut self,
        envelope: &Arc<Envelope>,
        reason: &str,
        now: Timestamp,
    ) {
        let mut cancelled = Envelope::clone(envelope);
        cancelled.push_failure(Failure {
            attempt: envelope.attempts,
            at: now,
            kind: FailureKind::Cancelled,
            message: reason.to_owned(),
            backtrace: None,
            worker: None,
        });
        let cancelled = Arc::new(cancelled);
        if let Some(record) = self.tasks.get_mut(&envelope.id) {
            record.envelope = Arc::clone(&cancelled);
        }
        self.archive(&cancelled, now);
    }

    /// Deletes a task that is in no list.
    pub(super) fn forget(&mut self, envelope: &Envelope) {
        self.unlock(envelope, |until| until != UniqueUntil::Window);
        self.tell(&envelope.id, || Finished::Gone);
        self.tasks.remove(&envelope.id);
    }

    /// Takes a task that is not active out of its list.
    pub(super) fn unlist(&mut self, id: &TaskId) {
        let Some(record) = self.tasks.get(id) else {
            return;
        };
        match &record.place {
            Place::Pending(_) => self.pending.remove(id.clone()),
            Place::Scheduled(due) => self.scheduled.remove(*due, id.clone()),
            Place::Retry(due) => self.retry.remove(*due, id.clone()),
            Place::Completed(kept) => self.completed.remove(kept.until, id.clone()),
            Place::Archived(at) => self.archived.remove(*at, id.clone()),
            Place::Active(_) => {}
        }
    }

    /// Takes the lock that the task asks for.
    fn lock(&mut self, envelope: &Envelope, now: Timestamp) -> Result<(), Conflict> {
        let Some(lock) = &envelope.unique else {
            return Ok(());
        };
        if let Some(held) = self.locks.get(&lock.key).filter(|held| held.until > now) {
            let state = self
                .tasks
                .get(&held.holder)
                .map_or(TaskState::Completed, Record::state);
            let (key, holder) = (lock.key.clone(), held.holder.clone());
            return Err(Conflict::Unique { key, holder, state });
        }
        let held = HeldLock {
            holder: envelope.id.clone(),
            until: now + lock.ttl,
        };
        self.locks.insert(lock.key.clone(), held);
        Ok(())
    }

    /// Releases the task's lock, if it still holds it and `ends` says that its kind of lock ends now.
    fn unlock(&mut self, envelope: &Envelope, ends: impl Fn(UniqueUntil) -> bool) {
        let Some(lock) = envelope.unique.as_ref().filter(|lock| ends(lock.until)) else {
            return;
        };
        if self
            .locks
            .get(&lock.key)
            .is_some_and(|held| held.holder == envelope.id)
        {
            self.locks.remove(&lock.key);
        }
    }

    // Those who listen.

    pub(super) fn listen(&mut self, listener: mpsc::UnboundedSender<Signal>) {
        self.listeners.retain(|listener| !listener.is_closed());
        self.listeners.push(listener);
    }

    /// Lets go of everyone who listens or waits.
    pub(super) fn hang_up(&mut self) {
        self.listeners.clear();
        self.waiters.clear();
    }

    fn signal(&mut self, signal: impl Fn() -> Signal) {
        self.listeners
            .retain(|listener| listener.send(signal()).is_ok());
    }

    pub(super) fn signal_pending(&mut self, was_empty: bool) {
        if was_empty && !self.paused {
            let name = self.name.clone();
            self.signal(|| Signal::Pending(name.clone()));
        }
    }

    fn signal_due(&mut self, due: Timestamp) {
        if self.next_due().is_none_or(|next| due < next) {
            let name = self.name.clone();
            self.signal(|| Signal::Due(name.clone(), due));
        }
    }

    pub(super) fn signal_cancel(&mut self, task: &TaskRef) {
        self.signal(|| Signal::Cancel(task.clone()));
    }

    pub(super) fn wait(&mut self, id: &TaskId) -> oneshot::Receiver<Finished> {
        let (waiter, finished) = oneshot::channel();
        let waiters = self.waiters.entry(id.clone()).or_default();
        waiters.retain(|waiter| !waiter.is_closed());
        waiters.push(waiter);
        finished
    }

    fn tell(&mut self, id: &TaskId, finished: impl Fn() -> Finished) {
        if self.waiters.is_empty() {
            return;
        }
        for waiter in self.waiters.remove(id).into_iter().flatten() {
            // One that has stopped waiting has nothing to be told.
            let _ = waiter.send(finished());
        }
    }
}
