//! Tasks that are ready for the broker, for callers that enqueue them by themselves.

use std::{fmt, iter};

use tracing::Span;

use super::{CallOptions, Enqueue, EnqueueError, Producer, TaskHandle, note_refused};
use crate::{
    broker::{Conflict, NewTask},
    metrics::{EnqueueResult, Enqueueing},
    task::{Name, Task},
    trace,
};

/// A task that is checked and encoded but not enqueued. A broker in a SQL database can enqueue it in the caller's
/// transaction, so that the task exists if and only if the caller's rows do.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use asynqueue_core::{broker::Broker, memory::MemoryBroker, producer::Producer};
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "email:welcome", crate = asynqueue_core)]
/// # struct WelcomeEmail { user_id: u64 }
///
/// let broker = MemoryBroker::new();
/// let producer = Producer::new(broker.clone());
/// let prepared = producer.enqueue(WelcomeEmail { user_id: 42 }).priority(5).prepare()?;
/// // A SQL broker would take the task together with a transaction here.
/// let mut results = broker.enqueue(vec![prepared.task().clone()]).await?;
/// let handle = prepared.accepted(results.remove(0))?;
/// println!("{} is enqueued", handle.id());
/// # Ok(()) }
/// ```
#[must_use = "a prepared task is not enqueued"]
pub struct Prepared<T> {
    task: NewTask,
    handle: TaskHandle<T>,
    /// The span of sending. It ends when this is dropped.
    _sending: Span,
}

impl<T: Task> Prepared<T> {
    /// The task to pass to the broker.
    pub fn task(&self) -> &NewTask {
        &self.task
    }

    /// The task to pass to the broker, if the caller needs no handle.
    pub fn into_task(self) -> NewTask {
        self.task
    }

    /// Ends the call for a task that was written to an [outbox](crate::outbox). The handle finds no task until a relay
    /// has enqueued it. The relay counts it among the enqueued tasks then.
    pub fn in_outbox(self) -> TaskHandle<T> {
        self.handle
    }

    /// Ends the call with the broker's result, and returns the handle of an accepted task. The handle finds no task
    /// until the caller's transaction is committed.
    ///
    /// # Errors
    ///
    /// The conflict, if the task was refused.
    pub fn accepted(self, response: Result<(), Conflict>) -> Result<TaskHandle<T>, EnqueueError> {
        let result = match &response {
            Ok(()) => EnqueueResult::Accepted,
            Err(_) => EnqueueResult::Duplicate,
        };
        Enqueueing::of(&self.task.envelope.queue, &Name::from_static(T::EVENT)).add(result, 1);
        response?;
        Ok(self.handle)
    }
}

impl<T> fmt::Debug for Prepared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("task", &self.task)
            .finish_non_exhaustive()
    }
}

impl Producer {
    /// Checks and encodes a task for a caller that enqueues it by itself: see [`Prepared`]. To override options,
    /// use [`Enqueue::prepare`].
    ///
    /// # Errors
    ///
    /// As for [`enqueue`](Self::enqueue), except for errors of the broker.
    pub fn prepare<T: Task>(&self, task: T) -> Result<Prepared<T>, EnqueueError> {
        self.prepare_with(&task, CallOptions::default())
    }

    fn prepare_with<T: Task>(
        &self,
        task: &T,
        call: CallOptions,
    ) -> Result<Prepared<T>, EnqueueError> {
        let built = match self.0.in_flight.enter() {
            None => Err(EnqueueError::ProducerClosed),
            Some(_) => call
                .refuse_durability::<T>(
                    "a prepared task is as durable as its transaction; remove it",
                )
                .and_then(|()| call.build(self, task)),
        };
        let mut task = built.inspect_err(|_| note_refused::<T>(1))?;
        let queue = task.envelope.queue.clone();
        let sending = trace::send(&queue, 1, iter::once(&mut task.envelope));
        self.0.inherited.keep_trace(std::slice::from_mut(&mut task));
        Ok(Prepared {
            handle: TaskHandle::new(self.0.broker.clone(), &task.envelope),
            task,
            _sending: sending,
        })
    }
}

impl<T: Task> Enqueue<'_, T> {
    /// Checks and encodes the task for a caller that enqueues it by itself: see [`Prepared`].
    ///
    /// # Errors
    ///
    /// As for [`Producer::prepare`], and when a [durability](Self::durability) is set.
    pub fn prepare(self) -> Result<Prepared<T>, EnqueueError> {
        self.producer.prepare_with(&self.task, self.call)
    }
}
