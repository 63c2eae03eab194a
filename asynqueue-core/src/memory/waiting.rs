//! In which order tasks leave a state.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque, hash_map::Entry},
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use crate::task::{Envelope, TaskId, Timestamp};

/// Tasks that wait for a worker: by priority, then first in, first out.
///
/// A task that is taken out of the middle leaves its entry behind, since looking for it would take as long as the list is. Such an
/// entry is dropped in its turn, and all of them once they are more than the tasks. Among the entries with one id and priority the
/// last one is the task, if it waits still: a task goes to the front only from a worker, and then all before it have had their turn.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Those without a priority, which are nearly all.
    plain: VecDeque<Arc<Envelope>>,
    /// Those with one, by it and their turn.
    urgent: BTreeMap<(Reverse<u8>, i64), Arc<Envelope>>,
    /// Turns go up at the back and down at the front.
    last_turn: i64,
    first_turn: i64,
    /// The first entry of all is never one of these.
    left_over: LeftOver,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        let entries = self.plain.len() + self.urgent.len();
        entries.saturating_sub(self.left_over.len)
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

    /// The task that is next.
    pub(super) fn first(&self) -> Option<&Arc<Envelope>> {
        let urgent = self.urgent.first_key_value();
        urgent.map_or_else(|| self.plain.front(), |(_, task)| Some(task))
    }

    pub(super) fn pop(&mut self) -> Option<Arc<Envelope>> {
        let task = self.pop_entry();
        self.drop_left_over();
        task
    }

    fn pop_entry(&mut self) -> Option<Arc<Envelope>> {
        self.urgent
            .pop_first()
            .map(|(_, task)| task)
            .or_else(|| self.plain.pop_front())
    }

    /// Takes a task out of the middle, at a cost that does not grow with the number of those that wait.
    pub(super) fn remove(&mut self, task: &Envelope) {
        self.left_over.add(task);
        if self.left_over.len > self.len() {
            let left_over = &mut self.left_over;
            self.urgent.retain(|_, task| !left_over.take(task));
            self.plain.retain(|task| !left_over.take(task));
        }
        self.drop_left_over();
    }

    /// Drops the entries before the task that is next.
    fn drop_left_over(&mut self) {
        while self.left_over.len > 0 {
            let Some(first) = self.first().cloned() else {
                return;
            };
            if !self.left_over.take(&first) {
                return;
            }
            self.pop_entry();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Envelope>> {
        let mut left_over = self.left_over.clone();
        let entries = self.urgent.values().chain(&self.plain);
        entries.filter(move |task| !left_over.take(task))
    }

    /// Gives back memory once most of it is unused.
    pub(super) fn shrink(&mut self) {
        if self.plain.capacity() / 4 > self.plain.len() {
            self.plain.shrink_to(self.plain.len() * 2);
        }
    }
}

/// Entries whose tasks no longer wait: how many of each id and priority.
#[derive(Clone, Debug, Default)]
struct LeftOver {
    counts: HashMap<(TaskId, u8), u32>,
    len: usize,
}

impl LeftOver {
    fn add(&mut self, task: &Envelope) {
        *self.counts.entry(key(task)).or_default() += 1;
        self.len += 1;
    }

    /// Whether an entry is one of these; if so, it is removed from them.
    fn take(&mut self, entry: &Envelope) -> bool {
        if self.len == 0 {
            return false;
        }
        let Entry::Occupied(mut count) = self.counts.entry(key(entry)) else {
            return false;
        };
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
        self.len -= 1;
        if self.len == 0 {
            // With its memory.
            self.counts = HashMap::new();
        }
        true
    }
}

fn key(task: &Envelope) -> (TaskId, u8) {
    (task.id.clone(), task.options.priority)
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::codec::{CodecName, MessagePack};

    const MANY: usize = 100_000;

    fn task(n: usize, priority: u8) -> Arc<Envelope> {
        let id = TaskId::new(n.to_string()).expect("an id");
        let codec = CodecName::of::<MessagePack>();
        let mut task = Envelope::new(id, "event", codec, Bytes::new());
        Arc::make_mut(&mut task.options).priority = priority;
        Arc::new(task)
    }

    fn filled(priority: u8) -> (Pending, Vec<Arc<Envelope>>) {
        let tasks: Vec<_> = (0..MANY).map(|n| task(n, priority)).collect();
        let mut pending = Pending::default();
        tasks
            .iter()
            .cloned()
            .for_each(|task| pending.push_back(task));
        (pending, tasks)
    }

    fn entries(pending: &Pending) -> usize {
        pending.plain.len() + pending.urgent.len()
    }

    #[test]
    fn taking_one_of_many_out_leaves_the_others_where_they_are() {
        for priority in [0, 3] {
            let (mut pending, tasks) = filled(priority);
            pending.remove(&tasks[MANY / 2]);
            assert_eq!((pending.len(), entries(&pending)), (MANY - 1, MANY));
            pending.remove(&tasks[0]);
            assert_eq!((pending.len(), entries(&pending)), (MANY - 2, MANY - 1));
        }
    }

    /// Each time that all are gone through, as many have been taken out since the time before as are left.
    #[test]
    fn taking_all_out_one_by_one_goes_through_them_a_few_times_in_all() {
        for priority in [0, 3] {
            let (mut pending, tasks) = filled(priority);
            let (mut looked_at, mut before) = (0, MANY);
            // From the back, so that none is dropped in its turn.
            for task in tasks.iter().rev() {
                pending.remove(task);
                if entries(&pending) < before {
                    looked_at += before;
                    before = entries(&pending);
                }
            }
            assert!(looked_at <= 2 * MANY, "{looked_at} for {MANY}");
            assert_eq!((pending.len(), entries(&pending)), (0, 0));
            assert_eq!(pending.left_over.counts.capacity(), 0, "with its memory");
        }
    }

    /// Under the same id, in the same list or in the other one.
    #[test]
    fn a_task_that_comes_back_is_not_taken_for_what_it_left_behind() {
        let mut pending = Pending::default();
        let (first, plain, urgent) = (task(0, 0), task(1, 0), task(1, 3));
        for task in [&first, &plain] {
            pending.push_back(Arc::clone(task));
        }
        pending.remove(&plain);
        pending.push_back(Arc::clone(&urgent));
        assert_eq!(pending.first(), Some(&urgent));
        pending.remove(&urgent);
        pending.push_back(task(2, 0));
        pending.push_back(Arc::clone(&plain));
        let order: Vec<_> = pending.iter().map(|task| task.id.to_string()).collect();
        assert_eq!(order, ["0", "2", "1"]);
        assert_eq!(pending.len(), 3);
        let popped = std::iter::from_fn(|| pending.pop());
        let popped: Vec<_> = popped.map(|task| task.id.to_string()).collect();
        assert_eq!(popped, order);
    }
}
