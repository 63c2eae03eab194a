//! Enqueueing tasks.

mod enqueue;
mod error;
mod handle;
mod in_flight;
mod inherit;
mod prepared;
mod size;
mod status;

use std::sync::Arc;

#[cfg(feature = "testing")]
pub(crate) use self::handle::decode_output;
use futures_util::future::join_all;
use tracing::Instrument;

pub use self::{
    enqueue::{CallOptions, Enqueue},
    error::{EnqueueError, ResultError},
    handle::TaskHandle,
    prepared::Prepared,
    status::TaskStatus,
};
use self::{in_flight::InFlight, inherit::Inherited};
use crate::{
    broker::{BrokerError, Conflict, Durability, NewTask, SharedBroker},
    metrics::{EnqueueResult, Enqueueing},
    task::{Name, Task, TaskId, TaskRef},
    trace,
};

/// The default size limit of a task: 1 MiB.
pub const DEFAULT_MAX_PAYLOAD: usize = 1024 * 1024;

/// Tasks per broker call in [`Producer::enqueue_many`].
const CHUNK: usize = 1_000;

/// Enqueues tasks. Clones are cheap and share one broker.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use asynqueue_core::{memory::MemoryBroker, producer::Producer};
/// use std::time::Duration;
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "email:welcome", crate = asynqueue_core)]
/// # struct WelcomeEmail { user_id: u64 }
///
/// let producer = Producer::new(MemoryBroker::new());
/// producer.enqueue(WelcomeEmail { user_id: 42 }).await?;
/// let handle = producer
///     .enqueue(WelcomeEmail { user_id: 43 })
///     .delay(Duration::from_secs(60))
///     .header("tenant", "acme")
///     .await?;
/// println!("{} is {}", handle.id(), handle.status().await?.state_name());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Producer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    broker: SharedBroker,
    max_payload: usize,
    in_flight: InFlight,
    /// What its tasks inherit. Empty unless it is the producer of a handler.
    inherited: Inherited,
}

impl Producer {
    /// A producer of tasks for `broker`.
    pub fn new(broker: impl Into<SharedBroker>) -> Self {
        Self::with_max_payload(broker, DEFAULT_MAX_PAYLOAD)
    }

    /// A producer for tasks of up to `max_payload` bytes, in place of [1 MiB](DEFAULT_MAX_PAYLOAD). The encoded
    /// payload, the headers, the unique key and the group count.
    pub fn with_max_payload(broker: impl Into<SharedBroker>, max_payload: usize) -> Self {
        Self::of(broker.into(), max_payload, Inherited::default())
    }

    /// A producer whose tasks inherit from another task.
    fn inheriting(broker: SharedBroker, inherited: Inherited) -> Self {
        Self::of(broker, DEFAULT_MAX_PAYLOAD, inherited)
    }

    fn of(broker: SharedBroker, max_payload: usize, inherited: Inherited) -> Self {
        Self(Arc::new(Inner {
            broker,
            max_payload,
            in_flight: InFlight::default(),
            inherited,
        }))
    }

    /// The broker that it enqueues to.
    pub fn broker(&self) -> &SharedBroker {
        &self.0.broker
    }

    /// Enqueues a task once the returned value is awaited. Its methods override options of the task's type.
    pub fn enqueue<T: Task>(&self, task: T) -> Enqueue<'_, T> {
        Enqueue::new(self, task)
    }

    /// Enqueues any number of tasks of one type, up to a thousand per broker call. The results are in the order
    /// given. A refused task does not affect the others.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # use asynqueue_core::{memory::MemoryBroker, producer::Producer};
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "email:welcome", crate = asynqueue_core)]
    /// # struct WelcomeEmail { user_id: u64 }
    /// let producer = Producer::new(MemoryBroker::new());
    /// let results = producer.enqueue_many((0..5_000).map(|user_id| WelcomeEmail { user_id })).await;
    /// assert!(results.iter().all(Result::is_ok));
    /// # }
    /// ```
    pub async fn enqueue_many<T, I>(&self, tasks: I) -> Vec<Result<TaskHandle<T>, EnqueueError>>
    where
        T: Task,
        I: IntoIterator<Item = T, IntoIter: Send>,
    {
        self.enqueue_each(tasks.into_iter().map(|task| (task, CallOptions::default())))
            .await
    }

    /// Like [`enqueue_many`](Self::enqueue_many), with options for each task: `configure` receives the task and its
    /// call.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # use asynqueue_core::{memory::MemoryBroker, producer::Producer};
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "email:welcome", crate = asynqueue_core)]
    /// # struct WelcomeEmail { user_id: u64 }
    /// let producer = Producer::new(MemoryBroker::new());
    /// let emails = (0..10).map(|user_id| WelcomeEmail { user_id });
    /// let results = producer
    ///     .enqueue_many_with(emails, |email, call| call.id(format!("welcome-{}", email.user_id)))
    ///     .await;
    /// assert!(results.iter().all(Result::is_ok));
    /// # }
    /// ```
    pub async fn enqueue_many_with<T, I, F>(
        &self,
        tasks: I,
        mut configure: F,
    ) -> Vec<Result<TaskHandle<T>, EnqueueError>>
    where
        T: Task,
        I: IntoIterator<Item = T, IntoIter: Send>,
        F: FnMut(&T, CallOptions) -> CallOptions + Send,
    {
        let calls = tasks.into_iter().map(|task| {
            let call = configure(&task, CallOptions::default());
            (task, call)
        });
        self.enqueue_each(calls).await
    }

    async fn enqueue_each<T: Task>(
        &self,
        mut calls: impl Iterator<Item = (T, CallOptions)> + Send,
    ) -> Vec<Result<TaskHandle<T>, EnqueueError>> {
        let mut results = Vec::with_capacity(calls.size_hint().0);
        let mut last = None;
        loop {
            let chunk: Vec<_> = calls
                .by_ref()
                .take(CHUNK)
                .map(|(task, call)| {
                    let durability = call.durability;
                    let built = call.build_after(last.as_ref(), self, &task);
                    last = built.as_ref().ok().map(|new| new.envelope.id.clone());
                    (durability, built)
                })
                .collect();
            if chunk.is_empty() {
                return results;
            }
            results.extend(self.send(chunk).await);
            // Encoding a long list never yields otherwise.
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn send_one<T: Task>(
        &self,
        task: NewTask,
        durability: Option<Durability>,
    ) -> Result<TaskHandle<T>, EnqueueError> {
        let Some(_in_flight) = self.0.in_flight.enter() else {
            note_refused::<T>(1);
            return Err(EnqueueError::ProducerClosed);
        };
        let handle = TaskHandle::new(self.0.broker.clone(), &task.envelope);
        let queue = task.envelope.queue.clone();
        match self.call::<T>(&queue, vec![task], durability).await?.pop() {
            Some(result) => result.map(|()| handle).map_err(Into::into),
            None => Err(missing_result().into()),
        }
    }

    /// Sends tasks of one queue to the broker, and records metrics and the trace.
    async fn call<T: Task>(
        &self,
        queue: &Name,
        mut tasks: Vec<NewTask>,
        durability: Option<Durability>,
    ) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        let sent = tasks.len();
        let span = trace::send(queue, sent, tasks.iter_mut().map(|task| &mut task.envelope));
        self.0.inherited.keep_trace(&mut tasks);
        let calling = match durability {
            None => self.0.broker.enqueue(tasks),
            Some(durability) => self.0.broker.enqueue_durably(tasks, durability),
        };
        let results = calling.instrument(span.clone()).await;
        let counter = Enqueueing::of(queue, &Name::from_static(T::EVENT));
        match &results {
            Ok(results) => {
                let accepted = results.iter().filter(|result| result.is_ok()).count();
                counter.add(EnqueueResult::Accepted, accepted);
                counter.add(EnqueueResult::Duplicate, sent - accepted);
            }
            Err(error) => {
                counter.add(EnqueueResult::Failed, sent);
                trace::not_sent(&span, error);
            }
        }
        results
    }

    /// Enqueues the valid tasks, in one broker call per queue and durability. If queues are on different servers,
    /// an unavailable one affects only its own tasks.
    async fn send<T: Task>(
        &self,
        tasks: Vec<(Option<Durability>, Result<NewTask, EnqueueError>)>,
    ) -> Vec<Result<TaskHandle<T>, EnqueueError>> {
        let Some(_in_flight) = self.0.in_flight.enter() else {
            note_refused::<T>(tasks.len());
            return tasks
                .iter()
                .map(|_| Err(EnqueueError::ProducerClosed))
                .collect();
        };
        let mut results = Vec::with_capacity(tasks.len());
        let mut batches: Vec<Batch> = Vec::with_capacity(1);
        for (durability, task) in tasks {
            let place = results.len();
            results.push(task.map(|task| {
                let handle = TaskHandle::new(self.0.broker.clone(), &task.envelope);
                Batch::of(&mut batches, &task.envelope.queue, durability).add(place, task);
                handle
            }));
        }
        note_refused::<T>(results.iter().filter(|result| result.is_err()).count());
        let calls = batches.into_iter().map(|batch| async move {
            let accepted = self
                .call::<T>(&batch.queue, batch.tasks, batch.durability)
                .await;
            (batch.places, accepted)
        });
        for (places, accepted) in join_all(calls).await {
            let mut accepted = accepted.map(Vec::into_iter);
            for place in places {
                let result = match &mut accepted {
                    Ok(accepted) => accepted.next().ok_or_else(missing_result),
                    Err(error) => Err(error.clone()),
                };
                match result {
                    Ok(Ok(())) => {}
                    Ok(Err(conflict)) => results[place] = Err(conflict.into()),
                    Err(error) => results[place] = Err(error.into()),
                }
            }
        }
        results
    }

    /// A handle for a task that was enqueued earlier or elsewhere, in the default queue of its type. For another
    /// queue, use [`handle`](Self::handle).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynqueue_core::{memory::MemoryBroker, producer::Producer, task::TaskId};
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "email:welcome", queue = "emails", crate = asynqueue_core)]
    /// # struct Welcome;
    ///
    /// let producer = Producer::new(MemoryBroker::new());
    /// producer.enqueue(Welcome).id("welcome-42").await?;
    ///
    /// let id: TaskId = "welcome-42".parse()?; // as in a request
    /// let task = producer.handle_by_id::<Welcome>(id);
    /// assert_eq!(task.task_ref().to_string(), "emails/welcome-42");
    /// assert_eq!(task.status().await?.state_name(), "pending");
    /// # Ok(()) }
    /// ```
    pub fn handle_by_id<T: Task>(&self, id: TaskId) -> TaskHandle<T> {
        self.handle(TaskRef::new(&T::options().queue, id))
    }

    /// A handle for a task that was enqueued earlier or elsewhere, in any queue.
    pub fn handle<T: Task>(&self, task: TaskRef) -> TaskHandle<T> {
        TaskHandle::of(self.0.broker.clone(), task)
    }

    /// Closes the producer: later calls are refused. Waits until all calls in progress have ended. The broker stays
    /// open for others.
    pub async fn close(&self) {
        self.0.in_flight.close().await;
    }
}

/// Tasks of one queue and durability, and their indices among all tasks.
struct Batch {
    queue: Name,
    durability: Option<Durability>,
    places: Vec<usize>,
    tasks: Vec<NewTask>,
}

impl Batch {
    /// The batch for a queue: usually the last one, otherwise another or a new one.
    fn of<'a>(
        batches: &'a mut Vec<Self>,
        queue: &Name,
        durability: Option<Durability>,
    ) -> &'a mut Self {
        let is_it = |batch: &Self| batch.queue == *queue && batch.durability == durability;
        let known = batches.iter().rposition(is_it);
        let place = known.unwrap_or_else(|| {
            batches.push(Self {
                queue: queue.clone(),
                durability,
                places: Vec::new(),
                tasks: Vec::new(),
            });
            batches.len() - 1
        });
        &mut batches[place]
    }

    fn add(&mut self, place: usize, task: NewTask) {
        self.places.push(place);
        self.tasks.push(task);
    }
}

/// Counts tasks that were refused before they were sent.
fn note_refused<T: Task>(tasks: usize) {
    if tasks > 0 {
        let counter = Enqueueing::of(&T::options().queue, &Name::from_static(T::EVENT));
        counter.add(EnqueueResult::Refused, tasks);
    }
}

fn missing_result() -> BrokerError {
    BrokerError::protocol("the result for a task is missing")
}
