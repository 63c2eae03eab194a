//! Following a task once it is enqueued.

use std::{
    any::{TypeId, type_name},
    fmt,
    marker::PhantomData,
};

use super::ResultError;
use crate::{
    broker::{BrokerError, CancelOutcome, Finished, SharedBroker, TaskInfo},
    codec::{Codec, CodecError, CodecName},
    task::{Envelope, Task, TaskId, TaskRef, TaskState},
};

/// An enqueued task. Dropping the handle changes nothing for the task.
pub struct TaskHandle<T> {
    broker: SharedBroker,
    task: TaskRef,
    payload: PhantomData<fn() -> T>,
}

/// Where an enqueued task is.
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
        Self::of(broker, envelope.task_ref())
    }

    pub(super) fn of(broker: SharedBroker, task: TaskRef) -> Self {
        Self {
            broker,
            task,
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

    /// Waits until the task is done and returns what its process returned. It is told, and does not poll. Retries are
    /// waited for; bound the wait with [`tokio::time::timeout`] where that is too long.
    ///
    /// A task type with an `output` keeps its result for an hour unless it says otherwise; for one without, ask while
    /// it is on its way, or set a retention.
    ///
    /// # Errors
    ///
    /// When the task has failed for good or is not known any more, its result is not an output of `T`, or the broker
    /// does not answer.
    pub async fn result(&self) -> Result<T::Output, ResultError> {
        let task = || self.task.clone();
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

    /// Cancels the task: one that waits is archived, one that runs is told to stop and not retried.
    ///
    /// # Errors
    ///
    /// When the broker does not answer.
    pub async fn cancel(&self, reason: &str) -> Result<CancelOutcome, BrokerError> {
        let outcome = self
            .broker
            .cancel(std::slice::from_ref(&self.task), reason)
            .await?
            .pop();
        Ok(outcome.unwrap_or(CancelOutcome::NotFound))
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
