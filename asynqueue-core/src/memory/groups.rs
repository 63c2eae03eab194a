//! Tasks that wait for their group.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;

use super::{
    MemoryBroker,
    queue::Queue,
    table::{Place, Record},
};
use crate::{
    broker::{Aggregation, BrokerError, Conflict, DueGroups, Group, GroupInfo, Groups},
    task::{Aggregate, Envelope, Name, TaskId, Timestamp},
};

/// The groups of a queue by event and name, and when each is due.
#[derive(Debug, Default)]
pub(super) struct GroupTable {
    groups: BTreeMap<Key, Members>,
    due: BTreeSet<(Timestamp, Key)>,
    len: usize,
}

type Key = (Name, Name);

#[derive(Debug, Default)]
struct Members {
    /// By the time each came in.
    tasks: BTreeSet<(Timestamp, TaskId)>,
    due: Timestamp,
}

impl GroupTable {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All members, by event and group, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &TaskId> {
        let members = self.groups.values();
        members.flat_map(|members| members.tasks.iter().map(|(_, id)| id))
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
    /// Adds a task to its group.
    pub(super) fn join_group(&mut self, envelope: &Envelope, now: Timestamp) {
        let Some(name) = envelope.aggregated_in() else {
            return;
        };
        let key = (envelope.event.clone(), name.clone());
        self.place(&envelope.id, Place::Aggregating(now));
        let members = self.groups.groups.entry(key.clone()).or_default();
        members.tasks.insert((now, envelope.id.clone()));
        self.groups.len += 1;
        let before = self.groups.due.first().map(|(due, _)| *due);
        self.set_due(&key, None);
        let first = self.groups.due.first().map(|(due, _)| *due);
        if let Some(first) = first.filter(|first| before.is_none_or(|before| *first < before)) {
            self.signal_group_due(first);
        }
    }

    /// Takes a task out of its group.
    pub(super) fn leave_group(&mut self, envelope: &Envelope, since: Timestamp) {
        let Some(name) = envelope.aggregated_in() else {
            return;
        };
        let key = (envelope.event.clone(), name.clone());
        if let Some(members) = self.groups.groups.get_mut(&key)
            && members.tasks.remove(&(since, envelope.id.clone()))
        {
            self.groups.len -= 1;
            self.set_due(&key, None);
        }
    }

    /// Sets when a group is due: then, or as its members have it. One without members is gone.
    fn set_due(&mut self, key: &Key, at: Option<Timestamp>) {
        let Some(members) = self.groups.groups.get_mut(key) else {
            return;
        };
        self.groups.due.remove(&(members.due, key.clone()));
        let newest = members.tasks.last();
        let limits = newest.and_then(|(_, id)| self.tasks.get(id)?.envelope.options.aggregate);
        let natural = limits.and_then(|limits| due(&members.tasks, &limits));
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

    fn due_groups(&self, events: &[Name], limit: usize, now: Timestamp, found: &mut DueGroups) {
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

    fn group_infos(&self, limit: usize) -> Vec<GroupInfo> {
        let info = |(due, key): &(Timestamp, Key)| {
            let tasks = &self.groups.groups.get(key)?.tasks;
            Some(GroupInfo {
                queue: self.name.clone(),
                event: key.0.clone(),
                name: key.1.clone(),
                size: tasks.len() as u64,
                oldest: tasks.first()?.0,
                due: *due,
            })
        };
        let groups = self.groups.due.iter().filter_map(info);
        groups.take(limit).collect()
    }

    fn group(&self, key: &Key) -> Option<Group> {
        let tasks = &self.groups.groups.get(key)?.tasks;
        let (_, newest) = tasks.last()?;
        let limits = self.tasks.get(newest)?.envelope.options.aggregate?;
        let oldest = tasks.iter().take(limits.max_size);
        Some(Group {
            queue: self.name.clone(),
            event: key.0.clone(),
            name: key.1.clone(),
            members: oldest.filter_map(|(_, id)| self.envelope(id)).collect(),
        })
    }

    fn aggregate(&mut self, aggregation: Aggregation, now: Timestamp) -> Result<bool, Conflict> {
        let Aggregation { group, task } = aggregation;
        let waits = |member: &Arc<Envelope>| {
            let record = self.tasks.get(&member.id);
            record.is_some_and(|record| record.waits_in(&group.event, &group.name))
        };
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
}

impl Record {
    fn waits_in(&self, event: &Name, group: &Name) -> bool {
        matches!(self.place, Place::Aggregating(_))
            && self.envelope.event == *event
            && self.envelope.aggregated_in() == Some(group)
    }
}

#[async_trait]
impl Groups for MemoryBroker {
    async fn due_groups(
        &self,
        queues: &[Name],
        events: &[Name],
        limit: usize,
    ) -> Result<DueGroups, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        let mut found = DueGroups::default();
        for queue in queues.iter().filter_map(|name| self.known(name)) {
            queue.lock().due_groups(events, limit, now, &mut found);
        }
        Ok(found)
    }

    async fn groups(&self, queue: &Name, limit: usize) -> Result<Vec<GroupInfo>, BrokerError> {
        self.open()?;
        let queue = self.known(queue);
        Ok(queue.map_or_else(Vec::new, |queue| queue.lock().group_infos(limit)))
    }

    async fn aggregate(
        &self,
        aggregation: Aggregation,
    ) -> Result<Result<bool, Conflict>, BrokerError> {
        self.open()?;
        let queue = self.queue(&aggregation.group.queue);
        let aggregated = queue.lock().aggregate(aggregation, self.clock_now());
        Ok(aggregated)
    }

    async fn postpone(&self, group: &Group, delay: Duration) -> Result<(), BrokerError> {
        self.open()?;
        let until = self.clock_now() + delay;
        if let Some(queue) = self.known(&group.queue) {
            let key = (group.event.clone(), group.name.clone());
            queue.lock().set_due(&key, Some(until));
        }
        Ok(())
    }
}
