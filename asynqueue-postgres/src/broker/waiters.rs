//! Waiting for the end of a task.
//!
//! A caller that waits adds a row for its task. The process that ends the task removes the row, announces the end, and
//! keeps the result of a task that is deleted. So the end of a task that nobody waits for costs nothing.

use std::time::Duration;

use asynqueue_core::{
    broker::{BrokerError, Finished},
    codec::CodecName,
    task::TaskRef,
};
use bytes::Bytes;

use super::{PostgresBroker, edit::archived};
use crate::sql::{
    Call, Value,
    values::{id_bytes, text},
};

/// How often a waiter looks for an end that was not announced to it, and renews its row.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The lock on the task's row makes a transaction that ends the task see the row, or this one see no task. An end that
/// exists already is that of a former task with this id.
const WAIT: &str = "with noted as (insert into asynqueue.waiter as w (queue, id, at) \
     select k.queue, k.id, asynqueue.now_at($3) from asynqueue.task k join asynqueue.queue q on q.id = k.queue \
     where q.name = $1 and k.id = $2 \
     and not exists (select from asynqueue.later l where l.turn = k.turn and l.state in (5, 6)) \
     for key share of k \
     on conflict (queue, id) do update set at = excluded.at \
     returning queue, id), \
     former as (delete from asynqueue.\"end\" e using noted n where e.queue = n.queue and e.id = n.id) \
     select true from noted";

const STOP_WAITING: &str = "delete from asynqueue.waiter w using asynqueue.queue q \
     where q.name = $1 and w.queue = q.id and w.id = $2";

const END: &str = "select e.result from asynqueue.\"end\" e join asynqueue.queue q on q.id = e.queue \
     where q.name = $1 and e.id = $2";

impl PostgresBroker {
    pub(super) async fn wait_for(&self, task: &TaskRef) -> Result<Finished, BrokerError> {
        self.link().listen().await;
        // Before the row is added: an end that is committed between the two is announced here.
        let mut heard = self.link().news.here.wait(task);
        let mut codec = None;
        loop {
            // The row first: a task that ends after the look sees it.
            let is_noted = self.note_waiter(task).await?;
            match self
                .look_all(std::slice::from_ref(task))
                .await?
                .pop()
                .flatten()
            {
                Some(info) if info.state.is_final() => {
                    if is_noted {
                        // It ended while the row was added, so nobody else removes the row.
                        self.stop_waiting(task).await?;
                    }
                    let task = info.envelope;
                    return Ok(match info.state {
                        asynqueue_core::task::TaskState::Completed => Finished::Completed {
                            result: info.result,
                            codec: task.codec.clone(),
                        },
                        _ => archived(&task),
                    });
                }
                Some(info) => codec = Some(info.envelope.codec.clone()),
                None => {
                    return Ok(match self.end_of_gone(task).await? {
                        Some(result) => Finished::Completed {
                            result: result.map(Bytes::from),
                            codec: codec.unwrap_or_else(
                                CodecName::of::<asynqueue_core::codec::MessagePack>,
                            ),
                        },
                        None => Finished::Gone,
                    });
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

    /// Adds a row for a task that has not ended. Returns whether there was one.
    async fn note_waiter(&self, task: &TaskRef) -> Result<bool, BrokerError> {
        let values = [
            text(&task.queue),
            Value::Bytes(Some(id_bytes(&task.id))),
            self.link().fixed(),
        ];
        let call = Call::new(WAIT, values);
        let noted = self.link().call(&call).await?;
        Ok(!noted.is_empty())
    }

    async fn stop_waiting(&self, task: &TaskRef) -> Result<(), BrokerError> {
        let values = [text(&task.queue), Value::Bytes(Some(id_bytes(&task.id)))];
        let call = Call::new(STOP_WAITING, values);
        self.link().call(&call).await.map(drop)
    }

    /// The result of a task that was completed and is not kept. `None` if there is none.
    async fn end_of_gone(&self, task: &TaskRef) -> Result<Option<Option<Vec<u8>>>, BrokerError> {
        let values = [text(&task.queue), Value::Bytes(Some(id_bytes(&task.id)))];
        let rows = self.link().call(&Call::new(END, values)).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }
}
