//! One queue. Every method is one atomic change of state, made while holding the queue's lock.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use super::{
    Now,
    groups::GroupTable,
    listeners::Listeners,
    locks::Locks,
    table::{Activity, Completion, Place, Record, Table},
    waiting::{Pending, Timeline},
};
use crate::{
    broker::{
        ArchiveStats, Conflict, Counted, Extended, Finished, HourStats, LeaseToken, Leased,
        NewTask, Outcome, Settled, Settlement, Signal, TickGuard, When,
    },
    task::{Envelope, Name, TaskId, TaskState, Timestamp},
};

/// The tasks of one queue. The [`Place`] of a task and the list of its state are always consistent.
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
    pub(super) groups: GroupTable,
    pub(super) paused: bool,
    /// Whether it has ever had a task.
    pub(super) was_used: bool,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) lost: u64,
    pub(super) archive: ArchiveStats,
    /// By the number of the hour since 1970.
    pub(super) hours: BTreeMap<u64, HourStats>,
    /// The last tick of each guard that a task had.
    pub(super) fired: HashMap<Name, Timestamp>,
    /// The statistics of other stores that were added, by their ids.
    pub(super) absorbed: HashSet<Name>,
    pub(super) locks: Locks,
    pub(super) last_token: u64,
    pub(super) listeners: Listeners,
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
            groups: GroupTable::default(),
            paused: false,
            was_used: false,
            succeeded: 0,
            failed: 0,
            lost: 0,
            archive: ArchiveStats::default(),
            hours: BTreeMap::new(),
            fired: HashMap::new(),
            absorbed: HashSet::new(),
            locks: Locks::default(),
            last_token: 0,
            listeners: Listeners::default(),
        }
    }

    pub(super) fn enqueue(&mut self, task: NewTask, now: Timestamp) -> Result<(), Conflict> {
        let NewTask {
            envelope,
            when,
            tick,
        } = task;
        if let Some(guard) = &tick
            && let Some(last) = self.fired.get(&guard.guard)
            && guard.has_fired(*last, now)
        {
            let task = envelope.task_ref();
            return Err(Conflict::Fired { task });
        }
        if let Some(record) = self.tasks.get(&envelope.id) {
            return Err(Conflict::Id {
                task: envelope.task_ref(),
                state: record.state(),
            });
        }
        self.lock(&envelope, now)?;
        if let Some(TickGuard { guard, tick }) = tick {
            self.fired.insert(guard, tick);
        }
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
        if envelope.aggregated_in().is_some() {
            self.join_group(&envelope, now, None)
        } else if due > now {
            self.schedule(&envelope, due)
        } else {
            self.make_pending(&envelope, now)
        }
        Ok(())
    }

    pub(super) fn lease(
        &mut self,
        count: usize,
        now: Now,
        lease: Duration,
        worker: &Name,
        leased: &mut Vec<Leased>,
    ) {
        if self.paused {
            return;
        }
        let (now, until) = (now.time, now.steady + lease);
        for _ in 0..count {
            let Some(next) = self.pending.pop() else {
                break;
            };
            let Some(record) = self.tasks.get_mut(&next.id) else {
                continue;
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
            let before = std::mem::replace(&mut record.place, Place::Active(activity.into()));
            let pending_since = match before {
                Place::Pending(since) => Some(since),
                _ => None,
            };
            // From the record: it may have been replaced while the task waited.
            let envelope = Arc::clone(&record.envelope);
            self.locks.release_at_start(&envelope);
            self.active.insert(until, envelope.id.clone());
            let mut task = Leased::new(envelope, token, now);
            task.pending_since = pending_since;
            leased.push(task);
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
        let extended = if activity.cancel.is_some() {
            Extended::CancelRequested
        } else {
            Extended::Yes
        };
        self.active.remove(before, id.clone());
        self.active.insert(until, id.clone());
        extended
    }

    pub(super) fn settle(&mut self, settlement: &Settlement, now: Now) -> Settled {
        let Settlement {
            envelope,
            token,
            outcome,
            only_if_expired,
            leased: _,
        } = settlement;
        let Some(record) = self.tasks.get_mut(&envelope.id) else {
            return Settled::Stale;
        };
        let Some(activity) = record.lease(*token) else {
            return Settled::Stale;
        };
        if *only_if_expired && activity.until > now.steady {
            return Settled::Stale;
        }
        let now = now.time;
        let (until, cancel) = (activity.until, activity.cancel.take());
        record.envelope = Arc::clone(envelope);
        self.active.remove(until, envelope.id.clone());
        if cancel.is_none() && matches!(outcome, Outcome::Snooze { .. } | Outcome::Release) {
            self.locks.retake(envelope, now);
        }
        if let Some(counted) = settlement.counts_as() {
            self.count(now, counted);
        }
        match (outcome, cancel) {
            (Outcome::Complete { result }, _) => {
                self.complete(envelope, result.clone(), now);
            }
            (Outcome::Drop, _) => self.forget(envelope),
            (_, Some(reason)) => {
                self.archive_cancelled(envelope, &reason, now);
                return Settled::Cancelled;
            }
            (Outcome::Archive, None) => self.archive(envelope, now),
            (Outcome::Retry { delay }, None) => {
                self.retry_at(envelope, now, now + *delay);
            }
            (Outcome::Snooze { delay }, None) if delay.is_zero() => {
                self.make_pending(envelope, now)
            }
            (Outcome::Snooze { delay }, None) => self.schedule(envelope, now + *delay),
            (Outcome::Release, None) => self.release(envelope, now),
        }
        Settled::Recorded
    }

    pub(super) fn forward(&mut self, now: Timestamp, limit: usize) -> usize {
        let mut moved = 0;
        while moved < limit {
            // By due time, so that neither a scheduled nor a retry backlog delays the other.
            let retry_is_first = match (self.scheduled.first_at(), self.retry.first_at()) {
                (Some(scheduled), Some(retry)) => retry < scheduled,
                (scheduled, _) => scheduled.is_none(),
            };
            let list = if retry_is_first {
                &mut self.retry
            } else {
                &mut self.scheduled
            };
            let next = list.pop_until(now);
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

    pub(super) fn expired(&self, now: Now, by: Timestamp, limit: usize, expired: &mut Vec<Leased>) {
        let by = now.time.min(by);
        let ended = self
            .active
            .iter()
            .take_while(|(until, _)| now.time_at(*until) <= by)
            .take(limit);
        for record in ended.filter_map(|(_, id)| self.tasks.get(id)) {
            if let Place::Active(activity) = &record.place {
                let envelope = Arc::clone(&record.envelope);
                expired.push(Leased::new(envelope, activity.token, now.time));
            }
        }
    }

    // The steps that the methods above and those of the control trait consist of.

    pub(super) fn envelope(&self, id: &TaskId) -> Option<Arc<Envelope>> {
        self.tasks
            .get(id)
            .map(|record| Arc::clone(&record.envelope))
    }

    /// Counts an attempt that has ended.
    fn count(&mut self, now: Timestamp, counted: Counted) {
        let hour = now.as_millis() / HourStats::MILLIS;
        let start = Timestamp::from_millis(hour * HourStats::MILLIS);
        let stats = self.hours.entry(hour).or_insert(HourStats {
            start,
            ..HourStats::default()
        });
        let (total, of_hour) = match counted {
            Counted::Succeeded => (&mut self.succeeded, &mut stats.succeeded),
            Counted::Failed => (&mut self.failed, &mut stats.failed),
            Counted::Lost => (&mut self.lost, &mut stats.lost),
        };
        *total += 1;
        *of_hour += 1;
    }

    /// Sets the place of a task that exists.
    pub(super) fn place(&mut self, id: &TaskId, place: Place) {
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

    fn release(&mut self, envelope: &Arc<Envelope>, now: Timestamp) {
        self.place(&envelope.id, Place::Pending(now));
        let was_empty = self.pending.len() == 0;
        self.pending.push_front(Arc::clone(envelope));
        self.signal_pending(was_empty);
    }

    pub(super) fn schedule(&mut self, envelope: &Arc<Envelope>, due: Timestamp) {
        self.place(&envelope.id, Place::Scheduled(due));
        self.signal_due(due);
        self.scheduled.insert(due, envelope.id.clone());
    }

    fn retry_at(&mut self, envelope: &Arc<Envelope>, now: Timestamp, due: Timestamp) {
        if due <= now {
            return self.make_pending(envelope, now);
        }
        self.wait_for_retry(envelope, due);
    }

    pub(super) fn wait_for_retry(&mut self, envelope: &Arc<Envelope>, due: Timestamp) {
        self.place(&envelope.id, Place::Retry(due));
        self.signal_due(due);
        self.retry.insert(due, envelope.id.clone());
    }

    fn complete(&mut self, envelope: &Arc<Envelope>, result: Option<Bytes>, now: Timestamp) {
        self.locks.release_at_end(envelope);
        self.listeners.notify(&envelope.id, || Finished::Completed {
            result: result.clone(),
            codec: envelope.codec.clone(),
        });
        if envelope.options.retention.is_zero() {
            self.tasks.remove(&envelope.id);
        } else {
            self.keep_completed(envelope, result, now + envelope.options.retention);
        }
    }

    pub(super) fn keep_completed(
        &mut self,
        envelope: &Arc<Envelope>,
        result: Option<Bytes>,
        until: Timestamp,
    ) {
        let completion = Completion { until, result };
        self.place(&envelope.id, Place::Completed(completion.into()));
        self.completed.insert(until, envelope.id.clone());
    }

    pub(super) fn archive(&mut self, envelope: &Arc<Envelope>, now: Timestamp) {
        self.locks.release_at_end(envelope);
        let failure = || envelope.last_failure().cloned().map(Box::new);
        self.listeners
            .notify(&envelope.id, || Finished::Archived { failure: failure() });
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
        let cancelled = Arc::new(envelope.cancelled(reason, now));
        if let Some(record) = self.tasks.get_mut(&envelope.id) {
            record.envelope = Arc::clone(&cancelled);
        }
        self.archive(&cancelled, now);
    }

    /// Deletes a task that is in no list.
    pub(super) fn forget(&mut self, envelope: &Envelope) {
        self.locks.release_at_end(envelope);
        self.listeners.notify(&envelope.id, || Finished::Gone);
        self.tasks.remove(&envelope.id);
    }

    /// Removes a task that is not active from its list.
    pub(super) fn unlist(&mut self, id: &TaskId) {
        let Some(record) = self.tasks.get(id) else {
            return;
        };
        match &record.place {
            Place::Pending(_) => self.pending.remove(&record.envelope),
            Place::Scheduled(due) => self.scheduled.remove(*due, id.clone()),
            Place::Retry(due) => self.retry.remove(*due, id.clone()),
            Place::Completed(kept) => self.completed.remove(kept.until, id.clone()),
            Place::Archived(at) => self.archived.remove(*at, id.clone()),
            Place::Aggregating(since) => {
                let (envelope, since) = (Arc::clone(&record.envelope), *since);
                self.leave_group(&envelope, since);
            }
            Place::Active(_) => {}
        }
    }

    /// Takes the lock of a task, if it is unique.
    fn lock(&mut self, envelope: &Envelope, now: Timestamp) -> Result<(), Conflict> {
        self.locks.take(envelope, now).map_err(|holder| {
            let state = self
                .tasks
                .get(&holder.id)
                .map_or(TaskState::Completed, Record::state);
            Conflict::Unique {
                key: holder.key,
                holder: holder.id,
                state,
            }
        })
    }

    /// Takes the lock of a task, unless the task still holds it. Returns whether it holds it now.
    pub(super) fn lock_again(&mut self, envelope: &Envelope, now: Timestamp) -> bool {
        self.locks
            .take(envelope, now)
            .map_or_else(|holder| holder.id == envelope.id, |()| true)
    }

    pub(super) fn signal_pending(&mut self, was_empty: bool) {
        if was_empty && !self.paused {
            self.listeners.signal(&Signal::Pending(self.name.clone()));
        }
    }

    pub(super) fn signal_group_due(&mut self, due: Timestamp) {
        self.listeners.signal(&Signal::Due(self.name.clone(), due));
    }

    fn signal_due(&mut self, due: Timestamp) {
        if self.next_due().is_none_or(|next| due < next) {
            self.listeners.signal(&Signal::Due(self.name.clone(), due));
        }
    }
}
