//! A broker in the simplest form.

mod apply;
mod digest;
mod edit;
mod entry;
mod locks;
mod upkeep;

use std::{cmp::Reverse, sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{
        ArchiveStats, CancelOutcome, Conflict, Extended, LeaseToken, NewTask, Outcome, Settled,
        Settlement, When,
    },
    process::Progress,
    task::{Envelope, Failure, FailureKind, Name, TaskRef, TaskState, Timestamp},
};

pub(crate) use self::entry::{Entry, Place};
use self::locks::Lock;
use super::QUEUES;

/// All tasks in one list.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) now: Timestamp,
    paused: [bool; QUEUES.len()],
    /// How many attempts of each queue succeeded, failed and were lost.
    attempts: [(u64, u64, u64); QUEUES.len()],
    /// What the limits of each queue's archive have deleted.
    archives: [ArchiveStats; QUEUES.len()],
    /// Whether each queue has had a task.
    used: [bool; QUEUES.len()],
    tasks: Vec<Entry>,
    /// The task of each lease. The token of a lease is its index here.
    leases: Vec<Arc<Envelope>>,
    locks: Vec<Lock>,
    /// Turns at the back of a queue count up, those at the front down.
    turns: (i64, i64),
}

/// The index of a queue.
fn queue_index(queue: &Name) -> usize {
    let place = QUEUES.iter().position(|name| queue == name);
    place.expect("one of the queues")
}

impl Model {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            now,
            paused: [false; QUEUES.len()],
            attempts: [(0, 0, 0); QUEUES.len()],
            archives: [ArchiveStats::default(); QUEUES.len()],
            used: [false; QUEUES.len()],
            tasks: Vec::new(),
            leases: Vec::new(),
            locks: Vec::new(),
            turns: (0, 0),
        }
    }

    fn find(&self, task: &TaskRef) -> Option<usize> {
        self.tasks.iter().position(|entry| entry.is(task))
    }

    fn last_turn(&mut self) -> Place {
        self.turns.0 += 1;
        Place::Pending {
            turn: self.turns.0,
            since: self.now,
        }
    }

    fn first_turn(&mut self) -> Place {
        self.turns.1 -= 1;
        Place::Pending {
            turn: self.turns.1,
            since: self.now,
        }
    }

    fn list(&self, queue: &Name, state: TaskState) -> Vec<Entry> {
        let in_list = |entry: &&Entry| entry.envelope.queue == *queue && entry.state() == state;
        let mut list: Vec<_> = self.tasks.iter().filter(in_list).cloned().collect();
        list.sort_by_key(Entry::order);
        if state.is_final() {
            list.sort_by_key(|entry| Reverse(entry.at()));
        }
        list
    }

    fn enqueue(&mut self, tasks: &[NewTask]) -> Vec<Result<(), Conflict>> {
        tasks.iter().map(|task| self.enqueue_one(task)).collect()
    }

    pub(crate) fn enqueue_one(
        &mut self,
        NewTask { envelope, when, .. }: &NewTask,
    ) -> Result<(), Conflict> {
        let task = envelope.task_ref();
        if let Some(place) = self.find(&task) {
            return Err(Conflict::Id {
                task,
                state: self.tasks[place].state(),
            });
        }
        self.lock(envelope)?;
        self.used[queue_index(&envelope.queue)] = true;
        let place = match *when {
            When::After(delay) if !delay.is_zero() => Place::Scheduled {
                due: self.now + delay,
            },
            When::At(due) if due > self.now => Place::Scheduled { due },
            _ => self.last_turn(),
        };
        self.tasks.push(Entry {
            envelope: Arc::new(envelope.clone()),
            place,
        });
        Ok(())
    }

    fn lease(
        &mut self,
        caps: &[(usize, usize)],
        max: usize,
        lease: Duration,
    ) -> Vec<(Arc<Envelope>, Timestamp)> {
        let mut leased = Vec::new();
        for (queue, cap) in caps {
            let limit = (*cap).min(max - leased.len());
            for entry in self.next(&QUEUES[*queue].into(), limit) {
                let token = LeaseToken(self.leases.len() as u64);
                self.leases.push(Arc::clone(&entry.envelope));
                self.activate(&entry, token, lease);
                leased.push((entry.envelope, self.now));
            }
        }
        leased
    }

    /// The tasks that a lease takes, up to the limit, in order.
    pub(crate) fn next(&self, queue: &Name, limit: usize) -> Vec<Entry> {
        if self.paused[queue_index(queue)] {
            return Vec::new();
        }
        let mut next = self.list(queue, TaskState::Pending);
        next.truncate(limit);
        next
    }

    /// Leases a task that is [next](Self::next).
    pub(crate) fn activate(&mut self, entry: &Entry, token: LeaseToken, lease: Duration) {
        let place = self
            .find(&entry.envelope.task_ref())
            .expect("a listed task is in the list of all");
        self.tasks[place].place = Place::Active {
            token,
            until: self.now + lease,
            cancel: None,
            progress: None,
        };
        self.unlock(&entry.envelope, true);
    }

    /// The index of a leased task, and why it is to be cancelled.
    fn current(&self, task: &TaskRef, token: LeaseToken) -> Option<(usize, Option<String>)> {
        let place = self.find(task)?;
        match &self.tasks[place].place {
            Place::Active {
                token: current,
                cancel,
                ..
            } if *current == token => Some((place, cancel.clone())),
            _ => None,
        }
    }

    pub(crate) fn extend(
        &mut self,
        task: &TaskRef,
        token: LeaseToken,
        lease: Duration,
    ) -> Extended {
        let Some((place, cancel)) = self.current(task, token) else {
            return Extended::Lost;
        };
        if let Place::Active { until, .. } = &mut self.tasks[place].place {
            *until = self.now + lease;
        }
        if cancel.is_some() {
            Extended::CancelRequested
        } else {
            Extended::Yes
        }
    }

    /// Whether a task is active and its lease has ended.
    pub(crate) fn has_expired(&self, task: &TaskRef) -> bool {
        self.expired(usize::MAX).iter().any(|entry| entry.is(task))
    }

    pub(crate) fn settle(&mut self, settlement: &Settlement) -> Settled {
        let Settlement {
            envelope,
            outcome,
            only_if_expired,
            token,
            leased: _,
        } = settlement;
        let Some((place, cancel)) = self.current(&envelope.task_ref(), *token) else {
            return Settled::Stale;
        };
        let task = envelope.task_ref();
        if *only_if_expired && !self.has_expired(&task) {
            return Settled::Stale;
        }
        self.tasks[place].envelope = Arc::clone(envelope);
        let (succeeded, failed, lost) = &mut self.attempts[queue_index(&envelope.queue)];
        match outcome {
            Outcome::Complete { .. } => *succeeded += 1,
            Outcome::Retry { .. } | Outcome::Archive if *only_if_expired => *lost += 1,
            Outcome::Retry { .. } | Outcome::Archive => *failed += 1,
            Outcome::Snooze { .. } | Outcome::Release | Outcome::Drop => {}
        }
        let next = match (outcome, cancel) {
            (Outcome::Complete { .. }, _) if envelope.options.retention.is_zero() => None,
            (Outcome::Complete { result }, _) => Some(Place::Completed {
                until: self.now + envelope.options.retention,
                result: result.clone(),
            }),
            (Outcome::Drop, _) => None,
            (_, Some(reason)) => {
                self.fail_cancelled(place, &reason);
                self.put(place, Some(Place::Archived { at: self.now }));
                return Settled::Cancelled;
            }
            (Outcome::Archive, None) => Some(Place::Archived { at: self.now }),
            (Outcome::Retry { delay }, None) => {
                Some(self.later(*delay, |due| Place::Retry { due }))
            }
            (Outcome::Snooze { delay }, None) => {
                Some(self.later(*delay, |due| Place::Scheduled { due }))
            }
            (Outcome::Release, None) => Some(self.first_turn()),
        };
        if matches!(outcome, Outcome::Snooze { .. } | Outcome::Release) {
            self.lock_back(envelope);
        }
        self.put(place, next);
        Settled::Recorded
    }

    fn later(&mut self, delay: Duration, place: impl Fn(Timestamp) -> Place) -> Place {
        if delay.is_zero() {
            self.last_turn()
        } else {
            place(self.now + delay)
        }
    }

    /// Moves a task to its next place, or deletes it without one.
    fn put(&mut self, place: usize, next: Option<Place>) {
        let envelope = Arc::clone(&self.tasks[place].envelope);
        if matches!(
            next,
            None | Some(Place::Completed { .. } | Place::Archived { .. })
        ) {
            self.unlock(&envelope, false);
        }
        match next {
            Some(next) => self.tasks[place].place = next,
            None => drop(self.tasks.remove(place)),
        }
    }

    fn fail_cancelled(&mut self, place: usize, reason: &str) {
        let envelope = Arc::make_mut(&mut self.tasks[place].envelope);
        envelope.push_failure(Failure::new(
            envelope.attempts,
            self.now,
            FailureKind::Cancelled,
            reason,
        ));
    }

    fn cancel(&mut self, tasks: &[TaskRef], reason: &str) -> Vec<CancelOutcome> {
        let cancel = |task| {
            let Some(place) = self.find(task) else {
                return CancelOutcome::NotFound;
            };
            match &mut self.tasks[place].place {
                Place::Completed { .. } | Place::Archived { .. } => CancelOutcome::AlreadyFinished,
                Place::Active { cancel, .. } => {
                    cancel.get_or_insert(reason.into());
                    CancelOutcome::Requested
                }
                _ => {
                    self.fail_cancelled(place, reason);
                    self.put(place, Some(Place::Archived { at: self.now }));
                    CancelOutcome::Cancelled
                }
            }
        };
        tasks.iter().map(cancel).collect()
    }

    fn report(&mut self, task: &TaskRef, current: LeaseToken, reported: &Progress) {
        if let Some(place) = self.find(task)
            && let Place::Active {
                token, progress, ..
            } = &mut self.tasks[place].place
            && *token == current
        {
            *progress = Some(reported.clone());
        }
    }

    /// How long the next task has been pending.
    fn latency(&self, queue: &Name) -> Duration {
        match self.list(queue, TaskState::Pending).first() {
            Some(Entry {
                place: Place::Pending { since, .. },
                ..
            }) => self.now.since(*since),
            _ => Duration::ZERO,
        }
    }

    fn delete(&mut self, tasks: &[TaskRef]) -> Vec<bool> {
        let delete = |task| match self.find(task) {
            Some(place) if self.tasks[place].state() == TaskState::Active => false,
            Some(place) => {
                self.put(place, None);
                true
            }
            None => true,
        };
        tasks.iter().map(delete).collect()
    }

    fn run_now(&mut self, tasks: &[TaskRef]) -> Vec<bool> {
        let run_now = |task| {
            let Some(place) = self.find(task) else {
                return false;
            };
            match self.tasks[place].state() {
                TaskState::Pending => true,
                TaskState::Archived if self.locked_out(place) => false,
                TaskState::Scheduled | TaskState::Retry | TaskState::Archived => {
                    self.tasks[place].place = self.last_turn();
                    true
                }
                _ => false,
            }
        };
        tasks.iter().map(run_now).collect()
    }
}
