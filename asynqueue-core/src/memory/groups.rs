//! Tasks that wait in their group.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{
    queue::Queue,
    table::{Place, Record},
};
use crate::{
    broker::{Aggregation, Apart, Conflict, DueGroups, Group, GroupInfo, Part, SetApart},
    task::{Aggregate, Envelope, Name, TaskId, Timestamp},
};

/// The groups of a queue by event and name, and when each is due.
#[derive(Debug, Default)]
pub(super) struct GroupTable {
    groups: BTreeMap<Key, Members>,
    due: BTreeSet<(Timestamp, Key)>,
    /// The part of the group, for tasks that were set apart.
    parts: HashMap<TaskId, Part>,
    len: usize,
}

type Key = (Name, Name, Option<Part>);

#[derive(Debug, Default)]
struct Members {
    /// By the time each was added.
    tasks: BTreeSet<(Timestamp, TaskId)>,
    due: Timestamp,
    /// How long members that were set apart wait.
    delay: Option<Duration>,
}

impl GroupTable {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All members, by event and group, oldest first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &TaskId> {
        let members = self.groups.values();
        members.flat_map(|members| members.tasks.iter().map(|(_, id)| id))
    }
}

impl Group {
    fn key(&self) -> Key {
        (self.event.clone(), self.name.clone(), self.part.clone())
    }
}

/// When a group is due, by the limits of its newest member.
fn due(tasks: &BTreeSet<(Timestamp, TaskId)>, limits: &Aggregate) -> Option<Timestamp> {
    let ((first, _), (last, _)) = (tasks.first()?, tasks.last()?);
    if tasks.len() >= limits.max_size {
        return Some(*last);
    }
    Some((*first + limits.max_delay).min(*last + limits.grace))
}

impl Queue {
    /// Adds a task to its group, or to a part of it.
    pub(super) fn join_group(&mut self, envelope: &Envelope, now: Timestamp, apart: Option<Apart>) {
        let Some(name) = envelope.aggregated_in() else {
            return;
        };
        let part = apart.as_ref().map(|apart| apart.part.clone());
        let parts = part.iter().map(|part| (envelope.id.clone(), part.clone()));
        self.groups.parts.extend(parts);
        let key = (envelope.event.clone(), name.clone(), part);
        self.place(&envelope.id, Place::Aggregating(now));
        let members = self.groups.groups.entry(key.clone()).or_default();
        members.delay = apart.map(|apart| apart.delay);
        members.tasks.insert((now, envelope.id.clone()));
        self.groups.len += 1;
        let before = self.groups.due.first().map(|(due, _)| *due);
        self.set_due(&key, None);
        let first = self.groups.due.first().map(|(due, _)| *due);
        if let Some(first) = first.filter(|first| before.is_none_or(|before| *first < before)) {
            self.signal_group_due(first);
        }
    }

    /// The part of its group that a task waits in, if it was set apart.
    pub(super) fn apart(&self, envelope: &Envelope) -> Option<Apart> {
        let part = self.groups.parts.get(&envelope.id)?.clone();
        let key = (
            envelope.event.clone(),
            envelope.aggregated_in()?.clone(),
            Some(part.clone()),
        );
        let delay = self.groups.groups.get(&key)?.delay?;
        Some(Apart { part, delay })
    }

    /// Removes a task from its group.
    pub(super) fn leave_group(&mut self, envelope: &Envelope, since: Timestamp) {
        let Some(name) = envelope.aggregated_in() else {
            return;
        };
        let part = self.groups.parts.remove(&envelope.id);
        let key = (envelope.event.clone(), name.clone(), part);
        if let Some(members) = self.groups.groups.get_mut(&key)
            && members.tasks.remove(&(since, envelope.id.clone()))
        {
            self.groups.len -= 1;
            self.set_due(&key, None);
        }
    }

    /// Delays a group: it is due no sooner than `until`.
    pub(super) fn postpone(&mut self, group: &Group, until: Timestamp) {
        self.set_due(&group.key(), Some(until));
    }

    /// Sets when a group is due: at `at`, or by its members' limits. Removes a group without members.
    fn set_due(&mut self, key: &Key, at: Option<Timestamp>) {
        let Some(members) = self.groups.groups.get_mut(key) else {
            return;
        };
        self.groups.due.remove(&(members.due, key.clone()));
        let newest = members.tasks.last();
        let limits = newest.and_then(|(_, id)| self.tasks.get(id)?.envelope.options.aggregate);
        let natural = match (members.delay, members.tasks.first()) {
            (Some(delay), first) => first.map(|(since, _)| *since + delay),
            (None, _) => limits.and_then(|limits| due(&members.tasks, &limits)),
        };
        match at.or(natural).filter(|_| natural.is_some()) {
            Some(due) => {
                members.due = due;
                self.groups.due.insert((due, key.clone()));
            }
            None => {
                self.groups.groups.remove(key);
            }
        }
    }

    pub(super) fn due_groups(
        &self,
        events: &[Name],
        limit: usize,
        now: Timestamp,
        found: &mut DueGroups,
    ) {
        for (due, key) in &self.groups.due {
            let is_due = *due <= now;
            if is_due && !events.contains(&key.0) {
                continue;
            }
            if !is_due || found.groups.len() >= limit {
                found.next_due = [found.next_due, Some(*due)].into_iter().flatten().min();
                break;
            }
            found.groups.extend(self.group(key));
        }
    }

    pub(super) fn group_infos(&self, limit: usize) -> Vec<GroupInfo> {
        let info = |(due, key): &(Timestamp, Key)| {
            let tasks = &self.groups.groups.get(key)?.tasks;
            Some(GroupInfo {
                queue: self.name.clone(),
                event: key.0.clone(),
                name: key.1.clone(),
                tries: key.2.as_ref().map_or(0, |part| part.tries),
                size: tasks.len() as u64,
                oldest: tasks.first()?.0,
                due: *due,
            })
        };
        let groups = self.groups.due.iter().filter_map(info);
        groups.take(limit).collect()
    }

    fn group(&self, key: &Key) -> Option<Group> {
        let members = self.groups.groups.get(key)?;
        let (_, newest) = members.tasks.last()?;
        let limits = self.tasks.get(newest)?.envelope.options.aggregate?;
        let max_size = members.delay.map_or(limits.max_size, |_| usize::MAX);
        let oldest = members.tasks.iter().take(max_size);
        Some(Group {
            queue: self.name.clone(),
            event: key.0.clone(),
            name: key.1.clone(),
            part: key.2.clone(),
            members: oldest.filter_map(|(_, id)| self.envelope(id)).collect(),
        })
    }

    pub(super) fn aggregate(
        &mut self,
        aggregation: Aggregation,
        now: Timestamp,
    ) -> Result<bool, Conflict> {
        let Aggregation { group, task } = aggregation;
        let waits = |member: &Arc<Envelope>| self.waits_in(&group, &member.id);
        if group.members.is_empty() || !group.members.iter().all(waits) {
            return Ok(false);
        }
        self.enqueue(task, now)?;
        for member in &group.members {
            if let Some(envelope) = self.envelope(&member.id) {
                self.unlist(&member.id);
                self.forget(&envelope);
            }
        }
        Ok(true)
    }

    /// Whether a task waits in a group, or in that part of it.
    fn waits_in(&self, group: &Group, id: &TaskId) -> bool {
        let is_member = |record: &Record| {
            matches!(record.place, Place::Aggregating(_))
                && record.envelope.event == group.event
                && record.envelope.aggregated_in() == Some(&group.name)
        };
        self.tasks.get(id).is_some_and(is_member)
            && self.groups.parts.get(id) == group.part.as_ref()
    }

    pub(super) fn set_apart(&mut self, apart: &SetApart, now: Timestamp) -> usize {
        let Some(part) = apart.part() else {
            return 0;
        };
        let mut moved = Vec::with_capacity(apart.members.len());
        for (seen, new) in apart.group.members.iter().zip(&apart.members) {
            let is_as_seen = self.envelope(&seen.id).is_some_and(|kept| kept == *seen);
            if is_as_seen && self.waits_in(&apart.group, &seen.id) {
                self.unlist(&seen.id);
                if let Some(record) = self.tasks.get_mut(&seen.id) {
                    record.envelope = Arc::clone(new);
                }
                moved.push(seen.id.clone());
            }
        }
        let group = &apart.group;
        let key = (group.event.clone(), group.name.clone(), Some(part.clone()));
        for (since, id) in moved.iter().enumerate() {
            // In the order in which they were added.
            let since = now + Duration::from_millis(since as u64);
            self.place(id, Place::Aggregating(since));
            self.groups.parts.insert(id.clone(), part.clone());
            let members = self.groups.groups.entry(key.clone()).or_default();
            members.delay = Some(apart.delay);
            members.tasks.insert((since, id.clone()));
        }
        self.groups.len += moved.len();
        self.set_due(&key, None);
        moved.len()
    }
}
