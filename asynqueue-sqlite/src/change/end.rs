//! The end of tasks.

use asynqueue_core::{
    broker::Finished,
    codec::CodecName,
    task::{Envelope, EnvelopeChanges, TaskState},
};
use bytes::Bytes;

use super::{Change, Event, Side, holds, state};
use crate::sql::{Fault, Id, Sql, ValueRef, int, time};

impl<S: Sql> Change<S> {
    /// Completes a task that is in no list.
    pub(crate) async fn complete(
        &mut self,
        queue: usize,
        leased: &Envelope,
        task: &Envelope,
        result: Option<&Bytes>,
    ) -> Result<(), Fault> {
        self.unlock_at_end(queue, task).await?;
        let id = Id::of(&task.id);
        let is_awaited = self.forget_waiter(queue, id).await?;
        let retention = task.options.retention;
        if retention.is_zero() {
            self.remove_row(queue, id).await?;
            if is_awaited {
                let row = [
                    int(self.queues[queue].id),
                    id.value(),
                    time(self.now),
                    result.map_or(ValueRef::Null, |result| ValueRef::Blob(result)),
                ];
                let end = "insert or replace into asynqueue_end values (?1, ?2, ?3, ?4)";
                self.sql.run(end, &row).await?;
            }
        } else {
            self.keep_changes(queue, leased, task, result).await?;
            let until = self.now + retention;
            self.set_state(queue, id, state::COMPLETED, until, 0)
                .await?;
            self.queues[queue].add(TaskState::Completed, 1);
        }
        let end = Finished::Completed {
            result: result.cloned(),
            codec: task.codec.clone(),
        };
        self.ended(task, end, is_awaited);
        Ok(())
    }

    /// Archives a task that is in no list. Its row has its envelope and changes already.
    pub(crate) async fn archive(&mut self, queue: usize, task: &Envelope) -> Result<(), Fault> {
        self.unlock_at_end(queue, task).await?;
        let id = Id::of(&task.id);
        let is_awaited = self.forget_waiter(queue, id).await?;
        self.set_state(queue, id, state::ARCHIVED, self.now, 0)
            .await?;
        self.queues[queue].add(TaskState::Archived, 1);
        let failure = task.last_failure().cloned().map(Box::new);
        self.ended(task, Finished::Archived { failure }, is_awaited);
        Ok(())
    }

    /// Deletes a task that is in no list.
    pub(crate) async fn forget(&mut self, queue: usize, task: &Envelope) -> Result<(), Fault> {
        self.unlock_at_end(queue, task).await?;
        let id = Id::of(&task.id);
        let is_awaited = self.forget_waiter(queue, id).await?;
        self.remove_row(queue, id).await?;
        self.ended(task, Finished::Gone, is_awaited);
        Ok(())
    }

    /// Stores the changes of an attempt, and the result. They are written beside the envelope, which is not written again
    /// unless something else in it has changed.
    pub(crate) async fn keep_changes(
        &mut self,
        queue: usize,
        leased: &Envelope,
        task: &Envelope,
        result: Option<&Bytes>,
    ) -> Result<(), Fault> {
        // The substitute for an envelope that cannot be read has nothing to keep.
        if task.codec == CodecName::unreadable() {
            return Ok(());
        }
        let changes = EnvelopeChanges::of(task);
        let bytes = changes.to_bytes();
        let mut expected = leased.clone();
        expected.apply(changes);
        let changes = match expected == *task {
            true => ValueRef::Blob(&bytes),
            false => {
                self.replace(queue, task).await?;
                ValueRef::Null
            }
        };
        self.keep_beside(queue, Id::of(&task.id), changes, result)
            .await
    }

    /// Stores changes and a result beside the envelope of a task.
    pub(crate) async fn keep_beside(
        &mut self,
        queue: usize,
        id: Id<'_>,
        changes: ValueRef<'_>,
        result: Option<&Bytes>,
    ) -> Result<(), Fault> {
        let queue = int(self.queues[queue].id);
        let result = result.map_or(ValueRef::Null, |result| ValueRef::Blob(result));
        let keep = "insert or replace into asynqueue_change values (?1, ?2, ?3, ?4)";
        self.sql
            .run(keep, &[queue, id.value(), changes, result])
            .await?;
        let mark = "update asynqueue_task set flags = flags | 2 where queue = ?1 and id = ?2";
        self.sql.run(mark, &[queue, id.value()]).await?;
        self.note(Side::Change);
        Ok(())
    }

    /// Replaces the envelope of a task, and forgets what workers have changed in the former one.
    pub(crate) async fn replace(&mut self, queue: usize, task: &Envelope) -> Result<(), Fault> {
        // The substitute for an envelope that cannot be read must not replace it.
        if task.codec == CodecName::unreadable() {
            return Ok(());
        }
        let (queue, id, bytes) = (
            int(self.queues[queue].id),
            Id::of(&task.id),
            task.to_bytes(),
        );
        let row = [queue, id.value(), ValueRef::Blob(&bytes), int(holds(task))];
        let replace =
            "update asynqueue_task set envelope = ?3, flags = ?4 where queue = ?1 and id = ?2";
        self.sql.run(replace, &row).await?;
        let forget = "delete from asynqueue_change where queue = ?1 and id = ?2";
        self.sql.run(forget, &[queue, id.value()]).await?;
        Ok(())
    }

    /// Deletes the row of a task, and the changes beside it.
    pub(crate) async fn remove_row(&mut self, queue: usize, id: Id<'_>) -> Result<(), Fault> {
        let task = [int(self.queues[queue].id), id.value()];
        let row = "delete from asynqueue_task where queue = ?1 and id = ?2";
        self.sql.run(row, &task).await?;
        if self.has(Side::Change).await? {
            let changes = "delete from asynqueue_change where queue = ?1 and id = ?2";
            self.sql.run(changes, &task).await?;
        }
        Ok(())
    }

    /// Whether a process may wait for the end of a task.
    pub(crate) async fn forget_waiter(&mut self, queue: usize, id: Id<'_>) -> Result<bool, Fault> {
        if !self.has(Side::Waiter).await? {
            return Ok(false);
        }
        let task = [int(self.queues[queue].id), id.value()];
        let waiter = "delete from asynqueue_waiter where queue = ?1 and id = ?2";
        Ok(self.sql.run(waiter, &task).await? > 0)
    }

    pub(crate) fn ended(&mut self, task: &Envelope, end: Finished, is_awaited: bool) {
        // A caller that starts to wait now adds its row after this transaction.
        if is_awaited {
            let task = task.task_ref();
            self.events.push(Event::Ended { task, end });
        }
    }
}
