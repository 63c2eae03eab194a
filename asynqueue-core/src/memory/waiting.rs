//! The order in which tasks leave a state.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque, hash_map::Entry},
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use crate::task::{Envelope, TaskId, Timestamp};

/// Tasks that wait for a worker: by priority, then first in, first out.
///
/// A task that is removed from the middle leaves its entry behind, because finding the entry would take time in
/// proportion to the length of the list. A stale entry is dropped when it reaches the front, and all of them once they
/// outnumber the tasks. Of several entries with the same id and priority, the last one is the task, if it still waits:
/// a task goes to the front only from a worker, and then all entries before it have already been dropped.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Tasks of priority 0, which are almost all.
    plain: VecDeque<Arc<Envelope>>,
    /// Tasks with a priority, by priority and turn.
    urgent: BTreeMap<(Reverse<u8>, i64), Arc<Envelope>>,
    /// Turns increase at the back and decrease at the front.
    last_turn: i64,
    first_turn: i64,
    /// The first entry of all is never stale.
    stale: Stale,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        let entries = self.plain.len() + self.urgent.len();
        entries.saturating_sub(self.stale.len)
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

    /// The next task.
    pub(super) fn first(&self) -> Option<&Arc<Envelope>> {
        let urgent = self.urgent.first_key_value();
        urgent.map_or_else(|| self.plain.front(), |(_, task)| Some(task))
    }

    pub(super) fn pop(&mut self) -> Option<Arc<Envelope>> {
        let task = self.pop_entry();
        self.drop_stale();
        task
    }

    fn pop_entry(&mut self) -> Option<Arc<Envelope>> {
        self.urgent
            .pop_first()
            .map(|(_, task)| task)
            .or_else(|| self.plain.pop_front())
    }

    /// Removes a task from the middle. The cost does not grow with the number of waiting tasks.
    pub(super) fn remove(&mut self, task: &Envelope) {
        self.stale.add(task);
        if self.stale.len > self.len() {
            let stale = &mut self.stale;
            self.urgent.retain(|_, task| !stale.take(task));
            self.plain.retain(|task| !stale.take(task));
        }
        self.drop_stale();
    }

    /// Drops stale entries before the next task.
    fn drop_stale(&mut self) {
        while self.stale.len > 0 {
            let Some(first) = self.first().cloned() else {
                return;
            };
            if !self.stale.take(&first) {
                return;
            }
            self.pop_entry();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Envelope>> {
        let mut stale = self.stale.clone();
        let entries = self.urgent.values().chain(&self.plain);
        entries.filter(move |task| !stale.take(task))
    }

    /// The tasks from the back. `waits` returns whether the task of an entry still waits with its priority: then the
    /// last of the entries with its id is the task, and otherwise all of them are stale.
    pub(super) fn backwards(
        &self,
        waits: impl Fn(&Envelope) -> bool,
    ) -> impl Iterator<Item = &Arc<Envelope>> {
        let mut seen = HashSet::new();
        let entries = self.plain.iter().rev();
        let entries = entries.chain(self.urgent.values().rev());
        entries.filter(move |task| match self.stale.has(task) {
            true => seen.insert(key(task)) && waits(task),
            false => true,
        })
    }

    /// Frees memory once most of it is unused.
    pub(super) fn shrink(&mut self) {
        if self.plain.capacity() / 4 > self.plain.len() {
            self.plain.shrink_to(self.plain.len() * 2);
        }
    }
}

/// Stale entries: their number for each id and priority.
#[derive(Clone, Debug, Default)]
struct Stale {
    counts: HashMap<(TaskId, u8), u32>,
    len: usize,
}

impl Stale {
    fn add(&mut self, task: &Envelope) {
        *self.counts.entry(key(task)).or_default() += 1;
        self.len += 1;
    }

    /// Whether any entry with this id and priority is stale.
    fn has(&self, entry: &Envelope) -> bool {
        self.len > 0 && self.counts.contains_key(&key(entry))
    }

    /// Whether an entry is stale. If so, it is removed from the count.
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
            // Frees the memory.
            self.counts = HashMap::new();
        }
        true
    }
}

fn key(task: &Envelope) -> (TaskId, u8) {
    (task.id.clone(), task.options.priority)
}

/// Tasks by time: when they are due, their lease or retention ends, or when they were archived.
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

    /// Removes and returns the first task, if its time is not after `now`.
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

    /// The tasks after the place of a cursor, forwards or backwards. All tasks without a cursor.
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
    fn removing_one_of_many_keeps_the_order_of_the_others() {
        for priority in [0, 3] {
            let (mut pending, tasks) = filled(priority);
            pending.remove(&tasks[MANY / 2]);
            assert_eq!((pending.len(), entries(&pending)), (MANY - 1, MANY));
            pending.remove(&tasks[0]);
            assert_eq!((pending.len(), entries(&pending)), (MANY - 2, MANY - 1));
        }
    }

    /// All entries are visited only after as many have been removed as are left.
    #[test]
    fn removing_all_one_by_one_visits_each_entry_a_few_times() {
        for priority in [0, 3] {
            let (mut pending, tasks) = filled(priority);
            let (mut looked_at, mut before) = (0, MANY);
            // From the back, so that no entry is dropped at the front.
            for task in tasks.iter().rev() {
                pending.remove(task);
                if entries(&pending) < before {
                    looked_at += before;
                    before = entries(&pending);
                }
            }
            assert!(looked_at <= 2 * MANY, "{looked_at} for {MANY}");
            assert_eq!((pending.len(), entries(&pending)), (0, 0));
            assert_eq!(pending.stale.counts.capacity(), 0, "the memory is freed");
        }
    }

    /// With the same id, in the same list or in the other one.
    #[test]
    fn a_returning_task_is_not_confused_with_its_stale_entry() {
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
        let backwards = pending.backwards(|task| task.options.priority == 0);
        let backwards: Vec<_> = backwards.map(|task| task.id.to_string()).collect();
        assert_eq!(backwards, ["1", "2", "0"]);
        assert_eq!(pending.len(), 3);
        let popped = std::iter::from_fn(|| pending.pop());
        let popped: Vec<_> = popped.map(|task| task.id.to_string()).collect();
        assert_eq!(popped, order);
    }
}
