//! Waiting for the end of a task.
//!
//! A caller that waits adds a row for its task. The process that ends the task removes the row, announces the end, and
//! keeps the result of a task that is deleted. So the end of a task that nobody waits for costs nothing.

use std::time::Duration;

use asynqueue_core::{
    broker::{BrokerError, Finished},
    codec::CodecName,
    task::{Name, TaskRef, TaskState},
};
use bytes::Bytes;
use rusqlite::{OptionalExtension, params};

use super::{SqliteBroker, row::Whole};
use crate::{
    change::{Change, Side},
    link::Need,
    sql::{Direct, Fault, Id, millis, ready},
};

/// How often a waiter looks for an end that was not announced to it, and renews its row.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What a waiter finds.
enum Look {
    /// It is in one of its final states.
    Task(Whole),
    Waiting(CodecOf),
    /// It was completed, and is not stored. Its result may be.
    Completed(Option<Vec<u8>>),
    Gone,
}

/// An envelope from which the codec of the result is read.
type CodecOf = super::row::Stored;

impl SqliteBroker {
    pub(super) async fn wait_for(&self, task: &TaskRef) -> Result<Finished, BrokerError> {
        // Before the row is added: an end that is committed between the two is announced here.
        let mut heard = self.link().announcer.wait(task);
        let mut codec = None;
        loop {
            match self.look_for_end(task).await? {
                Look::Task(found) => return end_of(found, &task.queue),
                Look::Gone => return Ok(Finished::Gone),
                Look::Completed(result) => {
                    return Ok(Finished::Completed {
                        result: result.map(Bytes::from),
                        codec: codec
                            .unwrap_or_else(CodecName::of::<asynqueue_core::codec::MessagePack>),
                    });
                }
                Look::Waiting(stored) => {
                    codec = Some(stored.read(&task.queue).either().codec.clone())
                }
            }
            match tokio::time::timeout(LOOK_AGAIN, heard.recv()).await {
                Ok(Some(Some(end))) => return Ok(end),
                Ok(None) => return Err(BrokerError::Closed),
                // Another process has ended the task, or none was heard of.
                Ok(Some(None)) | Err(_) => {}
            }
        }
    }

    async fn look_for_end(&self, task: &TaskRef) -> Result<Look, BrokerError> {
        let task = task.clone();
        let write = move |change: &mut Change<Direct<'_>>| change.look_for_end(&task);
        self.link().write(Need::Nothing, write).await
    }
}

fn end_of(found: Whole, queue: &Name) -> Result<Finished, BrokerError> {
    let info = found.info(queue)?;
    Ok(match info.state {
        TaskState::Completed => Finished::Completed {
            result: info.result,
            codec: info.envelope.codec.clone(),
        },
        _ => Finished::Archived {
            failure: info.envelope.last_failure().cloned().map(Box::new),
        },
    })
}

impl Change<Direct<'_>> {
    /// Looks for the end of a task, and has it announced if it has not ended.
    fn look_for_end(&mut self, task: &TaskRef) -> Result<Look, Fault> {
        let Some(queue) = ready(self.known(&task.queue))? else {
            return Ok(Look::Gone);
        };
        let (row, id) = (self.queues[queue].id, Id::of(&task.id));
        match self.whole(queue, id)? {
            Some(found) if found.state().is_final() => Ok(Look::Task(found)),
            Some(found) => {
                let add = "insert or replace into asynqueue_waiter values (?1, ?2, ?3)";
                let row = params![row, id, millis(self.now)];
                self.sql.0.prepare_cached(add)?.execute(row)?;
                // Of a former task with this id.
                let former = "delete from asynqueue_end where queue = ?1 and id = ?2";
                let key = params![self.queues[queue].id, id];
                self.sql.0.prepare_cached(former)?.execute(key)?;
                self.note(Side::Waiter);
                Ok(Look::Waiting(found.stored))
            }
            None => {
                let result = self.kept_result(queue, id)?;
                Ok(result.map_or(Look::Gone, Look::Completed))
            }
        }
    }

    /// The result of a completed task that is not stored. None if nobody waited for its end.
    pub(super) fn kept_result(
        &self,
        queue: usize,
        id: Id<'_>,
    ) -> Result<Option<Option<Vec<u8>>>, Fault> {
        let result = "select result from asynqueue_end where queue = ?1 and id = ?2";
        let mut result = self.sql.0.prepare_cached(result)?;
        let row = params![self.queues[queue].id, id];
        Ok(result.query_row(row, |row| row.get(0)).optional()?)
    }
}
