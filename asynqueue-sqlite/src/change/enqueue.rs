//! Accepting tasks.

use asynqueue_core::{
    broker::{Conflict, NewTask, When},
    task::{Envelope, TaskState, Timestamp, UniqueUntil},
};

use super::{Change, state};
use crate::sql::{Fault, Id, Sql, ValueRef, int, text, time, timestamp};

/// A task to accept, encoded before the transaction starts.
#[derive(Clone, Debug)]
pub(crate) struct NewRow {
    pub(crate) task: NewTask,
    pub(super) bytes: Vec<u8>,
}

impl From<NewTask> for NewRow {
    fn from(task: NewTask) -> Self {
        Self {
            bytes: task.envelope.to_bytes(),
            task,
        }
    }
}

const INSERT: &str =
    "insert into asynqueue_task values (?1, ?2, ?3, ?4, ?5, ?6, ?7) on conflict do nothing";

impl<S: Sql> Change<S> {
    pub(crate) async fn enqueue(&mut self, new: &NewRow) -> Result<Result<(), Conflict>, Fault> {
        let task = &new.task.envelope;
        let queue = self.queue(&task.queue).await?;
        if !self.may_fire(queue, &new.task).await? {
            let task = task.task_ref();
            return Ok(Err(Conflict::Fired { task }));
        }
        // Checked before the lock is taken, for tasks that have one.
        if task.unique.is_some() {
            if let Some(state) = self.state_of(queue, Id::of(&task.id)).await? {
                let task = task.task_ref();
                return Ok(Err(Conflict::Id { task, state }));
            }
            if let Err(conflict) = self.lock(queue, task).await? {
                return Ok(Err(conflict));
            }
        }
        let due = match new.task.when {
            When::Now => self.now,
            When::After(delay) => self.now + delay,
            When::At(time) => time,
        };
        let is_added = if task.aggregated_in().is_some() {
            self.add_to_group(queue, new).await?
        } else if due > self.now {
            self.add_scheduled(queue, new, due).await?
        } else {
            self.add_pending(queue, new).await?
        };
        if !is_added {
            let (state, task) = (
                self.state_of(queue, Id::of(&task.id)).await?,
                task.task_ref(),
            );
            let state = state.unwrap_or(TaskState::Other);
            return Ok(Err(Conflict::Id { task, state }));
        }
        if let Some(tick) = &new.task.tick {
            let row = [
                int(self.queues[queue].id),
                text(&tick.guard),
                time(tick.tick),
            ];
            let fired = "insert or replace into asynqueue_tick values (?1, ?2, ?3)";
            self.sql.run(fired, &row).await?;
        }
        self.queues[queue].row.is_used = true;
        Ok(Ok(()))
    }

    /// Whether a task is not refused for its tick.
    async fn may_fire(&mut self, queue: usize, task: &NewTask) -> Result<bool, Fault> {
        let Some(tick) = &task.tick else {
            return Ok(true);
        };
        let guard = [int(self.queues[queue].id), text(&tick.guard)];
        let last = "select tick from asynqueue_tick where queue = ?1 and guard = ?2";
        let last = self.sql.row(last, &guard).await?;
        Ok(last.is_none_or(|last| !tick.has_fired(timestamp(last.int(0)), self.now)))
    }

    async fn add_pending(&mut self, queue: usize, new: &NewRow) -> Result<bool, Fault> {
        let (task, turn) = (&new.task.envelope, self.last_turn().await?);
        let is_added = self
            .insert(queue, task, &new.bytes, state::PENDING, self.now, turn)
            .await?;
        if is_added {
            let priority = task.options.priority;
            self.list_pending(queue, Id::of(&task.id), priority, turn)
                .await?;
        }
        Ok(is_added)
    }

    async fn add_scheduled(
        &mut self,
        queue: usize,
        new: &NewRow,
        due: Timestamp,
    ) -> Result<bool, Fault> {
        // Read before the task is among them.
        self.next_due(queue).await?;
        let task = &new.task.envelope;
        let is_added = self
            .insert(queue, task, &new.bytes, state::SCHEDULED, due, 0)
            .await?;
        if is_added {
            self.note_due(queue, due).await?;
            self.queues[queue].add(TaskState::Scheduled, 1);
        }
        Ok(is_added)
    }

    /// Adds the row of a task. Returns whether its id was free.
    pub(crate) async fn insert(
        &mut self,
        queue: usize,
        task: &Envelope,
        bytes: &[u8],
        state: i64,
        at: Timestamp,
        turn: i64,
    ) -> Result<bool, Fault> {
        let id = Id::of(&task.id);
        let row = [
            int(self.queues[queue].id),
            id.value(),
            int(state),
            time(at),
            int(turn),
            int(holds(task)),
            ValueRef::Blob(bytes),
        ];
        Ok(self.sql.run(INSERT, &row).await? > 0)
    }
}

/// 1 for a task that releases a lock when it starts.
pub(crate) fn holds(task: &Envelope) -> i64 {
    let lock = task.unique.as_ref();
    lock.is_some_and(|lock| lock.until == UniqueUntil::Start)
        .into()
}
