//! The handle of an enqueued task: its status, its result, and cancellation.

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

use super::{ResultError, TaskStatus};
use crate::{
    broker::{BrokerError, CancelOutcome, Finished, SharedBroker},
    codec::{Codec, CodecError, CodecName},
    task::{Envelope, Failure, Task, TaskId, TaskRef, TaskState, cut},
};

/// An enqueued task. Dropping the handle does not affect the task.
pub struct TaskHandle<T> {
    broker: SharedBroker,
    task: TaskRef,
    /// Whether the task is stored after it completes, so that its result can be read.
    is_kept: bool,
    payload: PhantomData<fn() -> T>,
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
            // Options set by the enqueueing call are not known here.
            is_kept: true,
            payload: PhantomData,
        }
    }

    /// The task's id.
    pub fn id(&self) -> &TaskId {
        &self.task.id
    }

    /// The task's queue and id, to find it again from elsewhere.
    pub fn task_ref(&self) -> &TaskRef {
        &self.task
    }

    /// The current status of the task.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn status(&self) -> Result<TaskStatus, BrokerError> {
        let info = self
            .broker
            .tasks(std::slice::from_ref(&self.task))
            .await?
            .pop()
            .flatten();
        Ok(info.map_or(TaskStatus::Gone, |info| TaskStatus::Known(Box::new(info))))
    }

    /// Waits until the task completes and returns its output. The broker signals the end; nothing polls. Waits
    /// through retries: use [`tokio::time::timeout`] to limit the wait.
    ///
    /// The task must be kept after it completes: types with an `output` are kept for an hour, others according to
    /// their `retention`. For tasks that are not kept, use [`Enqueue::result`](crate::producer::Enqueue::result).
    ///
    /// # Errors
    ///
    /// When the task is not kept, was archived or is no longer stored, its result is not an output of `T`, or the
    /// broker cannot be reached.
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

    /// The task's status now and after each change, including its progress, until it finishes. Changes are polled
    /// every 250 ms; the end is signalled. The stream ends after [`TaskStatus::Gone`] or a final state, or with the
    /// first error.
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

    /// Cancels the task: a waiting task is archived; a running one is signalled to stop and is not retried. The
    /// reason is truncated to [4 KiB](crate::task::Failure::MAX_MESSAGE).
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn cancel(&self, reason: &str) -> Result<CancelOutcome, BrokerError> {
        let mut reason = reason.to_owned();
        cut(&mut reason, Failure::MAX_MESSAGE);
        let task = std::slice::from_ref(&self.task);
        let outcome = self.broker.cancel(task, &reason).await?.pop();
        Ok(outcome.unwrap_or(CancelOutcome::NotFound))
    }
}

/// How often to poll for changes.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The changes of a task until it finishes.
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
            // Until the end is signalled or the next poll is due.
            let end = self.handle.broker.finished(&self.handle.task);
            let _ = tokio::time::timeout(POLL_INTERVAL, end).await;
        }
        None
    }
}

/// Whether the status differs in more than the end of the lease.
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

/// The output of a handler, decoded from the stored result.
pub(crate) fn decode_output<T: Task>(
    codec: &CodecName,
    result: Option<&[u8]>,
) -> Result<T::Output, CodecError> {
    // An output of `()` is not stored, but the handler may have set a result for others.
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
