//! In which order tasks leave a state.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use crate::task::{Envelope, TaskId, Timestamp};

/// Tasks that wait for a worker: by priority, then first in, first out.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Those without a priority, which are nearly all.
    plain: VecDeque<Arc<Envelope>>,
    /// Those with one, by it and their turn.
    urgent: BTreeMap<(Reverse<u8>, i64), Arc<Envelope>>,
    /// Turns go up at the back and down at the front.
    last_turn: i64,
    first_turn: i64,
    /// Removed from the middle, but not yet swept out of `plain` and `urgent`.
    removed: HashSet<TaskId>,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.plain.len() + self.urgent.len() - self.removed.len()
    }

    pub(super) fn push_back(&mut self, task: Arc<Envelope>) {
        let priority = task.options.priority;
        if priority == 0 {
            self.plain.push_back(task);
        } else {
            self.last_turn += 1;
            self.urgent
                .insert((Reverse(priority), self.last_turn), task);
        }
    }

    pub(super) fn push_front(&mut self, task: Arc<Envelope>) {
        let priority = task.options.priority;
        if priority == 0 {
            self.plain.push_front(task);
        } else {
            self.first_turn -= 1;
            self.urgent
                .insert((Reverse(priority), self.first_turn), task);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Arc<Envelope>> {
        debug_assert!(self.removed.is_empty(), "not swept");
        self.urgent
            .pop_first()
            .map(|(_, task)| task)
            .or_else(|| self.plain.pop_front())
    }

    /// Takes a task out of the middle. [`sweep`](Self::sweep) must follow, once for any number of these.
    pub(super) fn remove(&mut self, id: TaskId) {
        self.removed.insert(id);
    }

    /// Finishes what [`remove`](Self::remove) began.
    pub(super) fn sweep(&mut self) {
        if !self.removed.is_empty() {
            self.plain.retain(|task| !self.removed.contains(&task.id));
            self.urgent
                .retain(|_, task| !self.removed.contains(&task.id));
            self.removed = HashSet::new();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Envelope>> {
        self.urgent.values().chain(&self.plain)
    }

    /// Gives back memory once most of it is unused.
    pub(super) fn shrink(&mut self) {
        if self.plain.capacity() / 4 > self.plain.len() {
            self.plain.shrink_to(self.plain.len() * 2);
        }
    }
}

/// Tasks by a time: due, lease end, expiry or when they were archived.
#[derive(Debug, Default)]
pub(super) struct Timeline(BTreeSet<(Timestamp, TaskId)>);

impl Timeline {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn insert(&mut self, at: Timestamp, id: TaskId) {
        self.0.insert((at, id));
    }

    pub(super) fn remove(&mut self, at: Timestamp, id: TaskId) {
        self.0.remove(&(at, id));
    }

    pub(super) fn first_at(&self) -> Option<Timestamp> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes out the first task, if its time is not after `now`.
    pub(super) fn pop_until(&mut self, now: Timestamp) -> Option<TaskId> {
        if self.first_at()? <= now {
            self.0.pop_first().map(|(_, id)| id)
        } else {
            None
        }
    }

    pub(super) fn pop_first(&mut self) -> Option<TaskId> {
        self.0.pop_first().map(|(_, id)| id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Timestamp, TaskId)> {
        self.0.iter()
    }

    /// From just after the place that a cursor names, forwards or backwards; all where there is none.
    pub(super) fn from<'a>(
        &'a self,
        cursor: Option<&str>,
        backwards: bool,
    ) -> Box<dyn Iterator<Item = &'a (Timestamp, TaskId)> + 'a> {
        let place = cursor.and_then(|cursor| {
            let (millis, id) = cursor.split_once(':')?;
            Some((
                Timestamp::from_millis(millis.parse().ok()?),
                TaskId::new(id).ok()?,
            ))
        });
        match (place, backwards) {
            (None, false) => Box::new(self.0.iter()),
            (None, true) => Box::new(self.0.iter().rev()),
            (Some(place), false) => Box::new(self.0.range((Excluded(place), Unbounded))),
            (Some(place), true) => Box::new(self.0.range(..place).rev()),
        }
    }
}
