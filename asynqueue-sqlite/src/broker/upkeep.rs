//! Upkeep: tasks that become due, and tasks that are no longer kept.

use asynqueue_core::{
    broker::{BrokerError, Each, Forwarded, HourStats, Keep, Trimmed},
    task::{Name, TaskId, TaskState, Timestamp},
};
use rusqlite::params;

use super::{
    SqliteBroker,
    apart::together_or_apart,
    row::{Read, Stored},
};
use crate::{
    change::{Change, Side, state},
    link::Need,
    sql::{Direct, Fault, Id, millis, ready, task_id},
};

/// How many rows of deleted queues one call removes.
const SWEPT: usize = 5_000;

/// How long the result of a task that is not kept waits for its waiter, and how long a waiter counts as waiting.
const END_KEPT: u64 = 60 * 1_000;
pub(super) const WAITER_KEPT: u64 = 3_600 * 1_000;

/// How long a lease that was completed in a transaction waits for its server.
const SETTLED_KEPT: u64 = 24 * 3_600 * 1_000;

pub(crate) const DUE: &str = "select * from (\
     select * from (select id, at, 0 as retry, envelope from asynqueue_task \
     where queue = ?1 and state > 2 and state = 3 and at <= ?2 order by at, id limit ?3) union all \
     select * from (select id, at, 1, envelope from asynqueue_task \
     where queue = ?1 and state > 2 and state = 4 and at <= ?2 order by at, id limit ?3)) \
     order by at, retry, id limit ?3";

/// The oldest tasks of a state, up to a time.
pub(crate) const OLDEST: &str = "select id from asynqueue_task \
     where queue = ?1 and state > 2 and state = ?2 and at <= ?3 order by at, id limit ?4";

impl SqliteBroker {
    pub(super) async fn forward_due(
        &self,
        queues: &[Name],
        limit: usize,
    ) -> Result<Each<Forwarded>, BrokerError> {
        // Most often nothing is due, and nothing has to be written.
        let names = queues.to_vec();
        let next = self.link().read(move |view| {
            let next = names.iter().map(|name| view.next_due(name));
            Ok((next.collect::<Result<Vec<_>, Fault>>()?, view.now))
        });
        // A failure is that of some queue, which its own call reports.
        if let Ok((next, now)) = next.await
            && next.iter().flatten().all(|next| *next > now)
        {
            let none = |next_due| Ok(Forwarded { moved: 0, next_due });
            return Ok(next.into_iter().map(none).collect());
        }
        let forward = |names: Vec<Name>| {
            let write = move |change: &mut Change<Direct<'_>>| {
                let forwarded = names
                    .iter()
                    .map(|name| Ok(Ok(change.forward(name, limit)?)));
                forwarded.collect()
            };
            self.link().write(Need::Nothing, write)
        };
        together_or_apart(queues, forward).await
    }

    pub(super) async fn trim_old(
        &self,
        queues: &[Name],
        keep: Keep,
        limit: usize,
    ) -> Result<Each<Trimmed>, BrokerError> {
        let trim = |names: Vec<Name>| {
            let write = move |change: &mut Change<Direct<'_>>| {
                change.sweep()?;
                let trimmed = names
                    .iter()
                    .map(|name| Ok(Ok(change.trim(name, keep, limit)?)));
                trimmed.collect()
            };
            self.link().write(Need::Nothing, write)
        };
        let trimmed = together_or_apart(queues, trim).await;
        self.link().announcer.forget_gone();
        if let Err(error) = self.link().give_space_back().await {
            tracing::debug!(%error, "could not shorten the database file; retrying later");
        }
        trimmed
    }
}

impl Change<Direct<'_>> {
    fn forward(&mut self, name: &Name, limit: usize) -> Result<Forwarded, Fault> {
        let Some(queue) = ready(self.known(name))? else {
            return Ok(Forwarded::default());
        };
        let mut forwarded = Forwarded::default();
        for (id, is_retry, envelope) in self.due(queue, limit)? {
            let state = if is_retry {
                TaskState::Retry
            } else {
                TaskState::Scheduled
            };
            self.queues[queue].add(state, -1);
            let stored = Stored {
                id,
                envelope,
                changes: None,
            };
            // An envelope that cannot be read has no priority.
            let (Read::Whole(task) | Read::Unreadable(task)) = stored.read(name);
            ready(self.make_pending(queue, &task, false))?;
            forwarded.moved += 1;
        }
        self.queues[queue].next_due = None;
        forwarded.next_due = ready(self.next_due(queue))?;
        Ok(forwarded)
    }

    fn due(&mut self, queue: usize, limit: usize) -> Result<Vec<(TaskId, bool, Vec<u8>)>, Fault> {
        let mut due = self.sql.0.prepare_cached(DUE)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = due.query(params![self.queues[queue].id, millis(self.now), limit])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push((
                task_id(row.get_ref(0)?)?,
                row.get::<_, i64>(2)? != 0,
                row.get(3)?,
            ));
        }
        Ok(found)
    }

    fn trim(&mut self, name: &Name, keep: Keep, limit: usize) -> Result<Trimmed, Fault> {
        let Some(queue) = ready(self.known(name))? else {
            return Ok(Trimmed::default());
        };
        let mut trimmed = Trimmed::default();
        let archived =
            usize::try_from(self.queues[queue].count(TaskState::Archived)).unwrap_or_default();
        if archived > 0 {
            self.queues[queue].row.archive_max =
                Some(i64::try_from(keep.archived_max).unwrap_or(i64::MAX));
        }
        let too_many = archived.saturating_sub(keep.archived_max).min(limit);
        trimmed.by_count =
            self.delete_oldest(queue, TaskState::Archived, Timestamp::MAX, too_many)?;
        let left = limit - trimmed.by_count;
        trimmed.completed = self.delete_oldest(queue, TaskState::Completed, self.now, left)?;
        let (left, too_old) = (left - trimmed.completed, self.now - keep.archived_for);
        trimmed.by_age = self.delete_oldest(queue, TaskState::Archived, too_old, left)?;

        let now = millis(self.now);
        let row = &mut self.queues[queue].row;
        row.trimmed_by_count += trimmed.by_count as i64;
        row.trimmed_by_age += trimmed.by_age as i64;
        if trimmed.by_count + trimmed.by_age > 0 {
            row.last_trimmed = Some(now);
        }
        trimmed.archived = self.queues[queue].count(TaskState::Archived) as u64;
        self.forget_old(queue)?;
        Ok(trimmed)
    }

    /// Deletes the oldest tasks of a state, up to a time. Their waiters and locks have ended before.
    fn delete_oldest(
        &mut self,
        queue: usize,
        of: TaskState,
        until: Timestamp,
        limit: usize,
    ) -> Result<usize, Fault> {
        if limit == 0 {
            return Ok(0);
        }
        let number = match of {
            TaskState::Completed => state::COMPLETED,
            _ => state::ARCHIVED,
        };
        let mut ids = Vec::new();
        {
            let mut oldest = self.sql.0.prepare_cached(OLDEST)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut rows =
                oldest.query(params![self.queues[queue].id, number, millis(until), limit])?;
            while let Some(row) = rows.next()? {
                ids.push(task_id(row.get_ref(0)?)?);
            }
        }
        for id in &ids {
            ready(self.remove_row(queue, Id::of(id)))?;
        }
        self.queues[queue].add(of, -(ids.len() as i64));
        Ok(ids.len())
    }

    /// Forgets what has no effect any more.
    fn forget_old(&mut self, queue: usize) -> Result<(), Fault> {
        let (db, id, now) = (self.sql.0, self.queues[queue].id, self.now.as_millis());
        let run =
            |sql: &str, until: u64| db.prepare_cached(sql)?.execute(params![id, until as i64]);
        let hour = now / HourStats::MILLIS;
        run(
            "delete from asynqueue_hour where queue = ?1 and hour < ?2",
            hour.saturating_sub(HourStats::KEPT),
        )?;
        run(
            "delete from asynqueue_lock where queue = ?1 and until <= ?2",
            now,
        )?;
        run(
            "delete from asynqueue_end where queue = ?1 and at < ?2",
            now.saturating_sub(END_KEPT),
        )?;
        if ready(self.has(Side::Waiter))? {
            run(
                "delete from asynqueue_waiter where queue = ?1 and at < ?2",
                now.saturating_sub(WAITER_KEPT),
            )?;
        }
        if ready(self.has(Side::Settled))? {
            let until = now.saturating_sub(SETTLED_KEPT) as i64;
            let settled = "delete from asynqueue_settled where at < ?1";
            db.prepare_cached(settled)?.execute([until])?;
        }
        Ok(())
    }

    /// Removes rows of deleted queues, a few thousand at a time.
    fn sweep(&mut self) -> Result<(), Fault> {
        let deleted = "select min(id) from asynqueue_queue where name is null";
        let deleted: Option<i64> = self
            .sql
            .0
            .prepare_cached(deleted)?
            .query_row([], |row| row.get(0))?;
        let Some(queue) = deleted else { return Ok(()) };
        let mut left = SWEPT;
        for sql in SWEEP {
            let limit = i64::try_from(left).unwrap_or(i64::MAX);
            left -= self
                .sql
                .0
                .prepare_cached(sql)?
                .execute(params![queue, limit])?;
            if left == 0 {
                return Ok(());
            }
        }
        let queue_row = "delete from asynqueue_queue where id = ?1";
        self.sql.0.prepare_cached(queue_row)?.execute([queue])?;
        Ok(())
    }
}

/// The rows of a queue in each table, a limited number at a time.
pub(crate) const SWEEP: [&str; 12] = [
    "delete from asynqueue_task where queue = ?1 and id in (select id from asynqueue_task where queue = ?1 limit ?2)",
    "delete from asynqueue_ready where queue = ?1 and (rank, turn) in \
     (select rank, turn from asynqueue_ready where queue = ?1 limit ?2)",
    "delete from asynqueue_change where queue = ?1 and id in (select id from asynqueue_change where queue = ?1 limit ?2)",
    "delete from asynqueue_lease where queue = ?1 and id in (select id from asynqueue_lease where queue = ?1 limit ?2)",
    "delete from asynqueue_running where queue = ?1 and id in (select id from asynqueue_running where queue = ?1 limit ?2)",
    "delete from asynqueue_lock where queue = ?1 and key in (select key from asynqueue_lock where queue = ?1 limit ?2)",
    "delete from asynqueue_tick where queue = ?1 and guard in (select guard from asynqueue_tick where queue = ?1 limit ?2)",
    "delete from asynqueue_hour where queue = ?1 and hour in (select hour from asynqueue_hour where queue = ?1 limit ?2)",
    "delete from asynqueue_waiter where queue = ?1 and id in (select id from asynqueue_waiter where queue = ?1 limit ?2)",
    "delete from asynqueue_end where queue = ?1 and id in (select id from asynqueue_end where queue = ?1 limit ?2)",
    "delete from asynqueue_absorbed where queue = ?1 and id in (select id from asynqueue_absorbed where queue = ?1 limit ?2)",
    "delete from asynqueue_group where id in (select id from asynqueue_group where queue = ?1 limit ?2)",
];
