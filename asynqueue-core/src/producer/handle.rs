//! Following a task once it is enqueued.

use std::{
    any::{TypeId, type_name},
    fmt,
    marker::PhantomData,
    time::Duration,
};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};

use super::ResultError;
use crate::{
    broker::{BrokerError, CancelOutcome, Finished, SharedBroker, TaskInfo},
    codec::{Codec, CodecError, CodecName},
    task::{Envelope, Failure, Task, TaskId, TaskRef, TaskState, cut},
};

/// An enqueued task. Dropping the handle changes nothing for the task.
pub struct TaskHandle<T> {
    broker: SharedBroker,
    task: TaskRef,
    /// Whether the broker keeps it once it is done, and so knows how it ended.
    is_kept: bool,
    payload: PhantomData<fn() -> T>,
}

/// Where an enqueued task is. There will be no third: either the broker has it or not.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskStatus {
    /// The broker has it.
    Known(Box<TaskInfo>),
    /// The broker does not have it (any more): completed without retention, past its retention, or deleted.
    Gone,
}

impl TaskStatus {
    /// The state, unless the task is gone.
    pub fn state(&self) -> Option<TaskState> {
        match self {
            Self::Known(info) => Some(info.state),
            Self::Gone => None,
        }
    }

    /// The state's name, or `gone`.
    pub fn state_name(&self) -> &'static str {
        self.state().map_or("gone", TaskState::as_str)
    }
}

impl<T: Task> TaskHandle<T> {
    pub(super) fn new(broker: SharedBroker, envelope: &Envelope) -> Self {
        Self {
            is_kept: !envelope.options.retention.is_zero(),
            ..Self::of(broker, envelope.task_ref())
        }
    }

    pub(super) fn of(broker: SharedBroker, task: TaskRef) -> Self {
        Self {
            broker,
            task,
            // What another call has set is not known here.
            is_kept: true,
            payload: PhantomData,
        }
    }

    /// The task's id.
    pub fn id(&self) -> &TaskId {
        &self.task.id
    }

    /// Points at the task, to find it again from elsewhere.
    pub fn task_ref(&self) -> &TaskRef {
        &self.task
    }

    /// Where the task is now.
    ///
    /// # Errors
    ///
    /// When the broker does not answer.
    pub async fn status(&self) -> Result<TaskStatus, BrokerError> {
        let info = self
            .broker
            .tasks(std::slice::from_ref(&self.task))
            .await?
            .pop()
            .flatten();
        Ok(info.map_or(TaskStatus::Gone, |info| TaskStatus::Known(Box::new(info))))
    }

    /// Waits until the task is done and returns what its process returned. The broker signals the end; nothing polls.
    /// Retries are waited for; bound the wait with [`tokio::time::timeout`] where that is too long.
    ///
    /// This needs a task that is kept once it is done: a type with an `output` is kept for an hour, and others as their
    /// `retention` says. [`Enqueue::result`](crate::producer::Enqueue::result) waits for one that is not kept.
    ///
    /// # Errors
    ///
    /// When the task is not kept, has failed for good or is not known any more, its result is not an output of `T`, or the
    /// broker does not answer.
    pub async fn result(&self) -> Result<T::Output, ResultError> {
        let task = || self.task.clone();
        if !self.is_kept {
            let event = T::EVENT;
            return Err(ResultError::NotKept {
                event,
                task: task(),
            });
        }
        match self.broker.finished(&self.task).await? {
            Finished::Completed { result, codec } => {
                let expected = type_name::<T::Output>();
                decode_output::<T>(&codec, result.as_deref()).map_err(|source| {
                    ResultError::Decode {
                        task: task(),
                        expected,
                        source,
                    }
                })
            }
            Finished::Archived { failure } => Err(ResultError::Failed {
                task: task(),
                failure,
            }),
            Finished::Gone => Err(ResultError::Gone { task: task() }),
        }
    }

    /// The task's status now and whenever it changes, its progress included, up to its end: a few looks a second, and none
    /// is needed to know the end. The stream ends after [`TaskStatus::Gone`] or a final state, or with the first error.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynqueue_core::{
    ///     memory::MemoryBroker,
    ///     process::{Context, Payload, TaskError},
    ///     producer::Producer,
    ///     server::Server,
    /// };
    /// use futures_util::StreamExt;
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "import", output = u64, crate = asynqueue_core)]
    /// # struct Import { rows: u64 }
    ///
    /// async fn import(task: Payload<Import>, ctx: Context) -> Result<u64, TaskError> {
    ///     ctx.progress(1, task.rows, "reading");
    ///     Ok(task.rows)
    /// }
    ///
    /// let broker = MemoryBroker::new();
    /// let server = Server::builder(broker.clone()).process(import).start().await?;
    /// let handle = Producer::new(broker).enqueue(Import { rows: 7 }).await?;
    /// let mut changes = handle.changes();
    /// while let Some(status) = changes.next().await {
    ///     println!("{}", status?.state_name());
    /// }
    /// # server.shutdown().await?;
    /// # Ok(()) }
    /// ```
    pub fn changes(&self) -> BoxStream<'static, Result<TaskStatus, BrokerError>> {
        let changes = Changes {
            handle: self.clone(),
            last: None,
            has_ended: false,
        };
        stream::unfold(changes, |mut changes| async {
            let next = changes.next().await?;
            Some((next, changes))
        })
        .boxed()
    }

    /// Cancels the task: one that waits is archived, one that runs is asked to stop and not retried. The reason is cut after
    /// [4 KiB](crate::task::Failure::MAX_MESSAGE).
    ///
    /// # Errors
    ///
    /// When the broker does not answer.
    pub async fn cancel(&self, reason: &str) -> Result<CancelOutcome, BrokerError> {
        let mut reason = reason.to_owned();
        cut(&mut reason, Failure::MAX_MESSAGE);
        let task = std::slice::from_ref(&self.task);
        let outcome = self.broker.cancel(task, &reason).await?.pop();
        Ok(outcome.unwrap_or(CancelOutcome::NotFound))
    }
}

/// How often to look for changes.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The changes of a task, up to its end.
struct Changes<T> {
    handle: TaskHandle<T>,
    last: Option<TaskStatus>,
    has_ended: bool,
}

impl<T: Task> Changes<T> {
    async fn next(&mut self) -> Option<Result<TaskStatus, BrokerError>> {
        while !self.has_ended {
            let status = match self.handle.status().await {
                Ok(status) => status,
                Err(error) => {
                    self.has_ended = true;
                    return Some(Err(error));
                }
            };
            self.has_ended = status.state().is_none_or(TaskState::is_final);
            if self.last.as_ref().is_none_or(|last| differ(last, &status)) {
                self.last = Some(status.clone());
                return Some(Ok(status));
            }
            // Whichever is first: the end, which is told, or the time for another look.
            let end = self.handle.broker.finished(&self.handle.task);
            let _ = tokio::time::timeout(LOOK_AGAIN, end).await;
        }
        None
    }
}

/// Whether there is something new, other than that the lease was extended.
fn differ(last: &TaskStatus, now: &TaskStatus) -> bool {
    match (last, now) {
        (TaskStatus::Known(last), TaskStatus::Known(now)) => {
            last.state != now.state
                || last.progress != now.progress
                || last.envelope.attempts != now.envelope.attempts
        }
        (last, now) => last != now,
    }
}

/// What a process returned, from what was kept of it.
pub(crate) fn decode_output<T: Task>(
    codec: &CodecName,
    result: Option<&[u8]>,
) -> Result<T::Output, CodecError> {
    // Of `()` nothing is kept, but its process may have set a result for others.
    let is_unit = TypeId::of::<T::Output>() == TypeId::of::<()>();
    match result.filter(|_| !is_unit) {
        Some(bytes) => codec.decode::<_, T::Codec>(bytes),
        None => T::Codec::encode(&()).and_then(|unit| T::Codec::decode(&unit)),
    }
}

impl<T> Clone for TaskHandle<T> {
    fn clone(&self) -> Self {
        Self {
            broker: self.broker.clone(),
            task: self.task.clone(),
            is_kept: self.is_kept,
            payload: PhantomData,
        }
    }
}

impl<T> fmt::Debug for TaskHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TaskHandle")
            .field(&self.task.to_string())
            .finish()
    }
}
