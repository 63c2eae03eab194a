//! Groups: finding those that are due, and replacing their members.

use std::time::Duration;

use asynqueue_core::{
    broker::{Aggregation, BrokerError, Conflict, DueGroups, Group, GroupInfo, Part, SetApart},
    task::{Name, TaskId, TaskState, Timestamp},
};
use rusqlite::{OptionalExtension, params};

use super::{
    SqliteBroker,
    row::{Read, Stored, part},
};
use crate::{
    change::{Change, GroupKey, NewRow, WHOLE, state},
    link::{Need, View},
    sql::{Direct, Fault, Id, ready, task_id, timestamp},
};

pub(crate) const DUE: &str = "select id, due, event, name, first, tries, delay from asynqueue_group \
     where queue = ?1 order by due, event, name";

pub(crate) const MEMBERS: &str = "select t.id, t.envelope, c.changes from asynqueue_task t \
     left join asynqueue_change c on c.queue = t.queue and c.id = t.id \
     where t.queue = ?1 and t.turn = ?2 and t.state = 7 order by t.at, t.id limit ?3";

pub(crate) const NEWEST: &str = "select id, envelope, null from asynqueue_task \
     where queue = ?1 and turn = ?2 and state = 7 order by at desc, id desc limit 1";

pub(crate) const INFO: &str = "select event, name, tries, size, oldest, due from asynqueue_group \
     where queue = ?1 order by due, event, name limit ?2";

/// A group before its members are decoded.
struct Found {
    queue: Name,
    event: Name,
    name: Name,
    part: Option<Part>,
    members: Vec<Stored>,
}

impl SqliteBroker {
    pub(super) async fn find_due_groups(
        &self,
        queues: &[Name],
        events: &[Name],
        limit: usize,
    ) -> Result<DueGroups, BrokerError> {
        let (queues, events) = (queues.to_vec(), events.to_vec());
        let read = move |view: &View<'_>| {
            let (mut found, mut next) = (Vec::new(), None);
            for name in &queues {
                let due = view.due_groups(name, &events, limit, &mut found)?;
                next = [next, due].into_iter().flatten().min();
            }
            Ok((found, next))
        };
        let (found, next_due) = self.link().read(read).await?;
        let group = |found: Found| {
            let read = |stored: Stored| stored.read(&found.queue).either();
            Group {
                members: found.members.into_iter().map(read).collect(),
                queue: found.queue.clone(),
                event: found.event,
                name: found.name,
                part: found.part,
            }
        };
        Ok(DueGroups {
            groups: found.into_iter().map(group).collect(),
            next_due,
        })
    }

    pub(super) async fn groups_of(
        &self,
        queue: &Name,
        limit: usize,
    ) -> Result<Vec<GroupInfo>, BrokerError> {
        let name = queue.clone();
        let read = move |view: &View<'_>| view.groups(&name, limit);
        self.link().read(read).await
    }

    pub(super) async fn aggregate_members(
        &self,
        aggregation: Aggregation,
    ) -> Result<Result<bool, Conflict>, BrokerError> {
        let (group, task) = (aggregation.group, NewRow::from(aggregation.task));
        let write = move |change: &mut Change<Direct<'_>>| change.aggregate(&group, &task);
        self.link().write(Need::Own, write).await
    }

    pub(super) async fn set_members_apart(&self, members: SetApart) -> Result<usize, BrokerError> {
        let write = move |change: &mut Change<Direct<'_>>| change.set_apart(&members);
        self.link().write(Need::Own, write).await
    }

    pub(super) async fn postpone_group(
        &self,
        group: &Group,
        delay: Duration,
    ) -> Result<(), BrokerError> {
        let group = group.clone();
        let write = move |change: &mut Change<Direct<'_>>| {
            let Some(queue) = ready(change.known(&group.queue))? else {
                return Ok(());
            };
            let first = first_of(group.part.as_ref());
            let found =
                ready(change.group(queue, &key(&group, group.part.as_ref(), first.as_ref())))?;
            if let Some(found) = found {
                let due = change.now + delay;
                ready(change.write_group(&found, due))?;
            }
            Ok(())
        };
        self.link().write(Need::Own, write).await
    }
}

/// The column of a part's first member.
fn first_of(part: Option<&Part>) -> Option<Id<'_>> {
    part.map(|part| Id::of(&part.first))
}

fn key<'a>(group: &'a Group, part: Option<&Part>, first: Option<&'a Id<'a>>) -> GroupKey<'a> {
    GroupKey {
        event: &group.event,
        name: &group.name,
        first: first.map_or(WHOLE, Id::value),
        tries: part.map_or(0, |part| part.tries.into()),
    }
}

impl View<'_> {
    /// Adds the due groups of a queue, and returns when the next one is due.
    fn due_groups(
        &self,
        name: &Name,
        events: &[Name],
        limit: usize,
        found: &mut Vec<Found>,
    ) -> Result<Option<Timestamp>, Fault> {
        let Some(queue) = self.queue(name)? else {
            return Ok(None);
        };
        let mut due_groups = self.db.prepare_cached(DUE)?;
        let mut rows = due_groups.query([queue])?;
        while let Some(row) = rows.next()? {
            let (due, event) = (timestamp(row.get(1)?), Name::from(row.get::<_, String>(2)?));
            let is_due = due <= self.now;
            if is_due && !events.contains(&event) {
                continue;
            }
            if !is_due || found.len() >= limit {
                return Ok(Some(due));
            }
            let (group, delay): (i64, Option<i64>) = (row.get(0)?, row.get(6)?);
            let size = match delay {
                Some(_) => i64::MAX,
                None => self.max_size(name, queue, group)?,
            };
            found.push(Found {
                queue: name.clone(),
                event,
                name: Name::from(row.get::<_, String>(3)?),
                part: part(row.get_ref(4)?, row.get(5)?)?,
                members: self.members(MEMBERS, queue, group, size)?,
            });
        }
        Ok(None)
    }

    /// The limit of members, which the newest one has.
    fn max_size(&self, name: &Name, queue: i64, group: i64) -> Result<i64, Fault> {
        let mut newest = self.db.prepare_cached(NEWEST)?;
        let newest = newest
            .query_row([queue, group], stored)
            .optional()?
            .transpose()?;
        let limits = newest.and_then(|newest| newest.read(name).either().options.aggregate);
        Ok(limits.map_or(i64::MAX, |limits| {
            i64::try_from(limits.max_size).unwrap_or(i64::MAX)
        }))
    }

    fn members(
        &self,
        sql: &'static str,
        queue: i64,
        group: i64,
        limit: i64,
    ) -> Result<Vec<Stored>, Fault> {
        let mut members = self.db.prepare_cached(sql)?;
        let members = members.query_map(params![queue, group, limit], stored)?;
        members.map(|member| member?).collect()
    }

    fn groups(&self, name: &Name, limit: usize) -> Result<Vec<GroupInfo>, Fault> {
        let Some(queue) = self.queue(name)? else {
            return Ok(Vec::new());
        };
        let mut groups = self.db.prepare_cached(INFO)?;
        let info = |row: &rusqlite::Row<'_>| {
            let (event, group): (String, String) = (row.get(0)?, row.get(1)?);
            let (size, oldest, due): (i64, i64, i64) = (row.get(3)?, row.get(4)?, row.get(5)?);
            let (event, group) = (Name::from(event), Name::from(group));
            let (oldest, due) = (timestamp(oldest), timestamp(due));
            let mut info = GroupInfo::new(name.clone(), event, group, size as u64, oldest, due);
            info.tries = row.get(2)?;
            Ok(info)
        };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Ok(groups
            .query_map(params![queue, limit], info)?
            .collect::<Result<_, _>>()?)
    }
}

fn stored(row: &rusqlite::Row<'_>) -> rusqlite::Result<Result<Stored, Fault>> {
    let (envelope, changes) = (row.get(1)?, row.get(2)?);
    Ok(task_id(row.get_ref(0)?).map(|id| Stored {
        id,
        envelope,
        changes,
    }))
}

impl Change<Direct<'_>> {
    fn aggregate(&mut self, group: &Group, task: &NewRow) -> Result<Result<bool, Conflict>, Fault> {
        let queue = ready(self.queue(&group.queue))?;
        let Some(number) = self.number_of_group(queue, group)? else {
            return Ok(Ok(false));
        };
        if group.members.is_empty() {
            return Ok(Ok(false));
        }
        for member in &group.members {
            if !self.waits_in(queue, number, &member.id)? {
                return Ok(Ok(false));
            }
        }
        if let Err(conflict) = ready(self.enqueue(task))? {
            return Ok(Err(conflict));
        }
        for member in &group.members {
            let found = self.whole(queue, Id::of(&member.id))?;
            let kept = found.map(|found| found.stored.read(&group.queue).either());
            self.queues[queue].add(TaskState::Aggregating, -1);
            ready(self.forget(queue, kept.as_ref().unwrap_or(member)))?;
        }
        ready(self.refresh_group(queue, number))?;
        Ok(Ok(true))
    }

    fn number_of_group(&mut self, queue: usize, group: &Group) -> Result<Option<i64>, Fault> {
        let first = first_of(group.part.as_ref());
        let found = ready(self.group(queue, &key(group, group.part.as_ref(), first.as_ref())))?;
        Ok(found.map(|found| found.id))
    }

    /// Whether a task waits in a group.
    fn waits_in(&self, queue: usize, group: i64, id: &TaskId) -> Result<bool, Fault> {
        let waits =
            "select 1 from asynqueue_task where queue = ?1 and id = ?2 and state = 7 and turn = ?3";
        let row = params![self.queues[queue].id, Id::of(id), group];
        Ok(self.sql.0.prepare_cached(waits)?.exists(row)?)
    }

    fn set_apart(&mut self, apart: &SetApart) -> Result<usize, Fault> {
        let (group, Some(part)) = (&apart.group, apart.part()) else {
            return Ok(0);
        };
        let queue = ready(self.queue(&group.queue))?;
        let Some(from) = self.number_of_group(queue, group)? else {
            return Ok(0);
        };
        let first = Id::of(&part.first);
        let delay = i64::try_from(apart.delay.as_millis()).unwrap_or(i64::MAX);
        let to =
            ready(self.group_or_new(queue, &key(group, Some(&part), Some(&first)), Some(delay)))?;
        let mut moved = 0;
        for (seen, new) in group.members.iter().zip(&apart.members) {
            if !self.is_as_seen(queue, from, group, seen)? {
                continue;
            }
            ready(self.replace(queue, new))?;
            // In the order in which they were added.
            let since = self.now + Duration::from_millis(moved as u64);
            ready(self.set_state(queue, Id::of(&seen.id), state::AGGREGATING, since, to.id))?;
            moved += 1;
        }
        ready(self.refresh_group(queue, from))?;
        ready(self.refresh_group(queue, to.id))?;
        Ok(moved)
    }

    /// Whether a member waits in its group and has not changed since it was read.
    fn is_as_seen(
        &mut self,
        queue: usize,
        number: i64,
        group: &Group,
        seen: &std::sync::Arc<asynqueue_core::task::Envelope>,
    ) -> Result<bool, Fault> {
        if !self.waits_in(queue, number, &seen.id)? {
            return Ok(false);
        }
        let found = self.whole(queue, Id::of(&seen.id))?;
        Ok(
            found.is_some_and(|found| match found.stored.read(&group.queue) {
                Read::Whole(kept) | Read::Unreadable(kept) => kept == *seen,
            }),
        )
    }
}
