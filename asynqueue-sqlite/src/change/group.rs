//! Tasks that wait in their group.

use asynqueue_core::{
    broker::Signal,
    task::{Aggregate, Envelope, Name, TaskState, Timestamp},
};

use super::{Change, Event, NewRow, state};
use crate::sql::{Fault, Sql, ValueRef, int, text, time, timestamp};

/// A group, or a part of one.
#[derive(Clone, Copy)]
pub(crate) struct GroupRow {
    pub(crate) id: i64,
    pub(crate) size: i64,
    pub(crate) oldest: Timestamp,
    /// How long the members of a part wait.
    pub(crate) delay: Option<i64>,
}

/// Which group or part a task is in: event, name, first member of the part and its tries.
pub(crate) struct GroupKey<'a> {
    pub(crate) event: &'a Name,
    pub(crate) name: &'a Name,
    /// An empty text for the group itself.
    pub(crate) first: ValueRef<'a>,
    pub(crate) tries: i64,
}

/// No first member.
pub(crate) const WHOLE: ValueRef<'static> = ValueRef::Text(b"");

const FIND: &str = "select id, size, oldest, delay from asynqueue_group \
     where queue = ?1 and event = ?2 and name = ?3 and first = ?4 and tries = ?5";

const NEW: &str = "insert into asynqueue_group (queue, event, name, first, tries, size, oldest, due, delay) \
     values (?1, ?2, ?3, ?4, ?5, 0, ?6, ?6, ?7)";

impl<S: Sql> Change<S> {
    pub(crate) async fn group(
        &mut self,
        queue: usize,
        key: &GroupKey<'_>,
    ) -> Result<Option<GroupRow>, Fault> {
        let queue = int(self.queues[queue].id);
        let values = [
            queue,
            text(key.event),
            text(key.name),
            key.first,
            int(key.tries),
        ];
        let found = self.sql.row(FIND, &values).await?;
        Ok(found.map(|row| GroupRow {
            id: row.int(0),
            size: row.int(1),
            oldest: timestamp(row.int(2)),
            delay: (!row.is_null(3)).then(|| row.int(3)),
        }))
    }

    /// The group, which is created if it does not exist.
    pub(crate) async fn group_or_new(
        &mut self,
        queue: usize,
        key: &GroupKey<'_>,
        delay: Option<i64>,
    ) -> Result<GroupRow, Fault> {
        loop {
            if let Some(found) = self.group(queue, key).await? {
                return Ok(found);
            }
            let delay = delay.map_or(ValueRef::Null, int);
            let (id, now) = (int(self.queues[queue].id), time(self.now));
            let row = [
                id,
                text(key.event),
                text(key.name),
                key.first,
                int(key.tries),
                now,
                delay,
            ];
            self.sql.run(NEW, &row).await?;
        }
    }

    /// Adds a new task to its group. Returns whether its id was free.
    pub(super) async fn add_to_group(&mut self, queue: usize, new: &NewRow) -> Result<bool, Fault> {
        let task = &new.task.envelope;
        let Some(name) = task.aggregated_in() else {
            return Ok(false);
        };
        let key = GroupKey {
            event: &task.event,
            name,
            first: WHOLE,
            tries: 0,
        };
        let before = self.first_group_due(queue).await?;
        let group = self.group_or_new(queue, &key, None).await?;
        let is_added = self
            .insert(
                queue,
                task,
                &new.bytes,
                state::AGGREGATING,
                self.now,
                group.id,
            )
            .await?;
        if is_added {
            self.queues[queue].add(TaskState::Aggregating, 1);
            let oldest = if group.size == 0 {
                self.now
            } else {
                group.oldest
            };
            let joined = GroupRow {
                size: group.size + 1,
                oldest,
                ..group
            };
            // Not this task, if others were added in the same millisecond or before the clock was set back.
            let newest = self.newest(queue, group.id).await?;
            let due = newest.map_or(self.now, |(at, limits)| due(&joined, at, &limits));
            self.note_group_due(queue, before, due);
            self.write_group(&joined, due).await?;
        } else if group.size == 0 {
            self.sql.run(DELETE, &[int(group.id)]).await?;
        }
        Ok(is_added)
    }

    /// When the first group of a queue is due.
    pub(crate) async fn first_group_due(
        &mut self,
        queue: usize,
    ) -> Result<Option<Timestamp>, Fault> {
        let first = "select min(due) from asynqueue_group where queue = ?1";
        let first = self.sql.row(first, &[int(self.queues[queue].id)]).await?;
        Ok(first
            .filter(|row| !row.is_null(0))
            .map(|row| timestamp(row.int(0))))
    }

    /// Announces a group that is due before all that there were.
    pub(crate) fn note_group_due(
        &mut self,
        queue: usize,
        before: Option<Timestamp>,
        due: Timestamp,
    ) {
        if before.is_none_or(|before| due < before) {
            let name = self.queues[queue].name.clone();
            let signal = Signal::Due(name.clone(), due);
            self.events.push(Event::Signal(name, signal));
        }
    }

    pub(crate) async fn write_group(
        &mut self,
        group: &GroupRow,
        due: Timestamp,
    ) -> Result<(), Fault> {
        let row = [
            int(group.id),
            int(group.size),
            time(group.oldest),
            time(due),
        ];
        let update = "update asynqueue_group set size = ?2, oldest = ?3, due = ?4 where id = ?1";
        self.sql.run(update, &row).await?;
        Ok(())
    }

    /// Computes a group again after members have left. `group` is its number.
    /// Returns when it is due, unless it is empty.
    pub(crate) async fn refresh_group(
        &mut self,
        queue: usize,
        group: i64,
    ) -> Result<Option<Timestamp>, Fault> {
        let id = int(self.queues[queue].id);
        let Some(ends) = self.sql.row(ENDS, &[id, int(group)]).await? else {
            return Ok(None);
        };
        if ends.int(0) == 0 {
            self.sql.run(DELETE, &[int(group)]).await?;
            return Ok(None);
        }
        let row = GroupRow {
            id: group,
            size: ends.int(0),
            oldest: timestamp(ends.int(1)),
            delay: (!ends.is_null(2)).then(|| ends.int(2)),
        };
        let due = match row.delay {
            Some(delay) => timestamp(ends.int(1).saturating_add(delay)),
            None => {
                let newest = self.newest(queue, group).await?;
                newest.map_or(timestamp(ends.int(3)), |(at, limits)| {
                    due(&row, at, &limits)
                })
            }
        };
        self.write_group(&row, due).await?;
        Ok(Some(due))
    }

    /// When the newest member of a group was added, and its limits.
    async fn newest(
        &mut self,
        queue: usize,
        group: i64,
    ) -> Result<Option<(Timestamp, Aggregate)>, Fault> {
        let id = int(self.queues[queue].id);
        let Some(newest) = self.sql.row(NEWEST, &[id, int(group)]).await? else {
            return Ok(None);
        };
        let name = self.queues[queue].name.clone();
        let task = Envelope::from_bytes(name, newest.id(0)?, newest.bytes(1)).ok();
        let limits = task.and_then(|task| task.options.aggregate);
        Ok(limits.map(|limits| (timestamp(newest.int(2)), limits)))
    }
}

const DELETE: &str = "delete from asynqueue_group where id = ?1";

/// Size, first time, delay, and when it has been due.
const ENDS: &str = "select (select count(*) from asynqueue_task where queue = ?1 and turn = ?2 and state = 7), \
     (select min(at) from asynqueue_task where queue = ?1 and turn = ?2 and state = 7), \
     delay, due from asynqueue_group where id = ?2";

const NEWEST: &str = "select id, envelope, at from asynqueue_task where queue = ?1 and turn = ?2 and state = 7 \
     order by at desc, id desc limit 1";

/// When a group is due, by the limits of its newest member.
fn due(group: &GroupRow, newest: Timestamp, limits: &Aggregate) -> Timestamp {
    if usize::try_from(group.size).is_ok_and(|size| size >= limits.max_size) {
        return newest;
    }
    (group.oldest + limits.max_delay).min(newest + limits.grace)
}
