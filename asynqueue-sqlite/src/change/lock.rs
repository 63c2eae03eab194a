//! Unique locks.

use asynqueue_core::{
    broker::Conflict,
    task::{Envelope, TaskId, TaskState, Timestamp, UniqueKey, UniqueUntil},
};

use super::{Change, task_state};
use crate::sql::{Fault, Id, Sql, int, text, time};

const TAKE: &str = "insert into asynqueue_lock values (?1, ?2, ?3, ?4) on conflict do update \
     set holder = excluded.holder, until = excluded.until where until <= ?5";

impl<S: Sql> Change<S> {
    /// Takes the lock of a task, if it is unique. Returns the holder of a lock that is held.
    async fn take_lock(
        &mut self,
        queue: usize,
        task: &Envelope,
    ) -> Result<Result<(), TaskId>, Fault> {
        let Some(lock) = &task.unique else {
            return Ok(Ok(()));
        };
        let (queue, key) = (int(self.queues[queue].id), text(lock.key.as_str()));
        let (id, until) = (Id::of(&task.id), self.now + lock.ttl);
        let row = [queue, key, id.value(), time(until), time(self.now)];
        if self.sql.run(TAKE, &row).await? > 0 {
            return Ok(Ok(()));
        }
        let held = "select holder from asynqueue_lock where queue = ?1 and key = ?2";
        let row = self.sql.row(held, &[queue, key]).await?;
        let row = row.ok_or_else(|| Fault::unexpected("a lock that is held has no row"))?;
        Ok(Err(row.id(0)?))
    }

    /// Takes a lock for a task if nobody holds it.
    pub(crate) async fn take_if_free(
        &mut self,
        queue: usize,
        key: &UniqueKey,
        id: Id<'_>,
        until: Timestamp,
    ) -> Result<(), Fault> {
        let queue = int(self.queues[queue].id);
        let row = [
            queue,
            text(key.as_str()),
            id.value(),
            time(until),
            time(self.now),
        ];
        self.sql.run(TAKE, &row).await.map(drop)
    }

    /// Takes the lock of a new task.
    pub(super) async fn lock(
        &mut self,
        queue: usize,
        task: &Envelope,
    ) -> Result<Result<(), Conflict>, Fault> {
        let (Err(holder), Some(lock)) = (self.take_lock(queue, task).await?, &task.unique) else {
            return Ok(Ok(()));
        };
        let state = self.state_of(queue, Id::of(&holder)).await?;
        Ok(Err(Conflict::Unique {
            key: lock.key.clone(),
            holder,
            state: state.unwrap_or(TaskState::Completed),
        }))
    }

    /// Takes the lock of a task unless the task still holds it. Returns whether it holds it now.
    pub(crate) async fn lock_again(
        &mut self,
        queue: usize,
        task: &Envelope,
    ) -> Result<bool, Fault> {
        let taken = self.take_lock(queue, task).await?;
        Ok(taken.map_or_else(|holder| holder == task.id, |()| true))
    }

    /// Takes the lock of a released or snoozed task again, which it released at its start. If another task holds it,
    /// this one waits without it.
    pub(crate) async fn retake_lock(&mut self, queue: usize, task: &Envelope) -> Result<(), Fault> {
        let lock = task.unique.as_ref();
        if lock.is_some_and(|lock| lock.until == UniqueUntil::Start) {
            self.take_lock(queue, task).await?.ok();
        }
        Ok(())
    }

    /// Releases a lock that is held until the start of the task.
    pub(crate) async fn unlock_at_start(
        &mut self,
        queue: usize,
        task: &Envelope,
    ) -> Result<(), Fault> {
        self.unlock(queue, task, |until| until == UniqueUntil::Start)
            .await
    }

    /// Releases a lock that is held until the end of the task.
    pub(crate) async fn unlock_at_end(
        &mut self,
        queue: usize,
        task: &Envelope,
    ) -> Result<(), Fault> {
        self.unlock(queue, task, |until| until != UniqueUntil::Window)
            .await
    }

    async fn unlock(
        &mut self,
        queue: usize,
        task: &Envelope,
        ends: impl Fn(UniqueUntil) -> bool,
    ) -> Result<(), Fault> {
        let Some(lock) = task.unique.as_ref().filter(|lock| ends(lock.until)) else {
            return Ok(());
        };
        let (queue, id) = (int(self.queues[queue].id), Id::of(&task.id));
        let held = [queue, text(lock.key.as_str()), id.value()];
        // Another task may hold it already.
        let release = "delete from asynqueue_lock where queue = ?1 and key = ?2 and holder = ?3";
        self.sql.run(release, &held).await?;
        Ok(())
    }

    /// The state of a task. `None` if it does not exist.
    pub(super) async fn state_of(
        &mut self,
        queue: usize,
        id: Id<'_>,
    ) -> Result<Option<TaskState>, Fault> {
        let queue = int(self.queues[queue].id);
        let found = self.sql.row(STATE, &[queue, id.value()]).await?;
        Ok(found.map(|row| match row.int(1) {
            0 => task_state(row.int(0)),
            _ => TaskState::Active,
        }))
    }
}

const STATE: &str = "select state, exists(select 1 from asynqueue_lease where queue = ?1 and id = ?2) \
     from asynqueue_task where queue = ?1 and id = ?2";
