//! Publish and subscribe: one event, and a task for each of its subscribers.
//!
//! Publishing enqueues one task in the event's outbox. A server with any of the subscribers runs it and enqueues
//! a task for each of them, all under the id of the event. If that server dies halfway, another one repeats it;
//! deliveries already made are recognized by the id, and for a while after they complete by a lock.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use crate::{
    broker::{Conflict, NewTask, SharedBroker, Subscription, When},
    layer::{BoxProcess, TaskFuture, TaskOutput},
    metrics::{self, EnqueueResult},
    process::{Context, TaskError},
    producer::{CallOptions, EnqueueError, Producer},
    task::{Envelope, Name, Task, TaskId, Timestamp, UniqueKey, UniqueLock, UniqueUntil},
};

/// How long the id of an event is remembered after publishing, and after each subscriber completes. Within this time,
/// publishing the id again delivers nothing.
pub const PUBLISH_WINDOW: Duration = Duration::from_secs(10 * 60);

/// How long the outbox waits before it retries a failed delivery.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The header that lists the subscribers of a published event, one per line.
const SUBSCRIBERS: &str = "asynqueue-subscribers";

/// The queue that an event is published to.
pub(crate) fn outbox(event: &str) -> Name {
    Subscription::queue_of(event, "")
}

/// An event to be published: override options, then `.await` it.
#[must_use = "an event is published once this is awaited"]
#[derive(Debug)]
pub struct Publish<'a, T> {
    producer: &'a Producer,
    event: T,
    call: CallOptions,
}

/// An event that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The event's id, which each subscriber's task has too.
    pub id: TaskId,
    /// How many subscribers it is delivered to.
    pub subscribers: usize,
    /// `false` if an event with this id has already been published.
    pub is_new: bool,
}

impl Producer {
    /// Publishes an event to all current [subscribers](crate::server::ServerBuilder::subscribe), once the returned
    /// value is awaited. Each subscriber gets a separate task in a separate queue, with separate retries. Once this
    /// returns `Ok`, no subscriber misses the event.
    ///
    /// It costs one read of the subscribers and, if there are any, one task, regardless of their number.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynqueue_core::{
    ///     memory::MemoryBroker,
    ///     process::{Context, Payload, TaskError},
    ///     producer::Producer,
    ///     server::Server,
    /// };
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "order:placed", crate = asynqueue_core)]
    /// # struct OrderPlaced { order: u64 }
    ///
    /// async fn reserve(event: Payload<OrderPlaced>, _: Context) -> Result<(), TaskError> {
    ///     println!("reserving what order {} needs", event.order);
    ///     Ok(())
    /// }
    ///
    /// let broker = MemoryBroker::new();
    /// let server = Server::builder(broker.clone()).subscribe("inventory", reserve).start().await?;
    /// let published = Producer::new(broker).publish(OrderPlaced { order: 42 }).id("order-42").await?;
    /// assert_eq!(published.subscribers, 1);
    /// server.shutdown().await?;
    /// # Ok(()) }
    /// ```
    pub fn publish<T: Task>(&self, event: T) -> Publish<'_, T> {
        Publish {
            producer: self,
            event,
            call: CallOptions::default(),
        }
    }
}

impl<'a, T: Task> Publish<'a, T> {
    /// Sets the event's id. By default one is generated. Publishing it again under the same id, for example after
    /// an error, is safe for [`PUBLISH_WINDOW`]: no subscriber receives it twice.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.call = self.call.id(id);
        self
    }

    /// Adds a header to the event.
    pub fn header(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.call = self.call.header(key, value);
        self
    }

    /// The time from now until which handling must start; a subscriber's task that has not started then is
    /// archived. Retries may run at any time.
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.call = self.call.expires_in(time);
        self
    }

    /// The priority within each subscriber's queue, from 0 to 9. Higher runs first.
    pub fn priority(mut self, priority: u8) -> Self {
        self.call = self.call.priority(priority);
        self
    }

    async fn send(self) -> Result<Published, EnqueueError> {
        let Self {
            producer,
            event,
            call,
        } = self;
        let name = Name::from_static(T::EVENT);
        let subscribers = producer.broker().subscribers(&name).await?;
        let mut task = call.queue(outbox(T::EVENT)).build(producer, &event)?;
        let published = |is_new| Published {
            id: task.envelope.id.clone(),
            subscribers: subscribers.len(),
            is_new,
        };
        let (new, known) = (published(true), published(false));
        if subscribers.is_empty() {
            return Ok(new);
        }
        let names: Vec<_> = subscribers
            .iter()
            .map(|known| known.name.as_str())
            .collect();
        task.envelope.headers.insert(SUBSCRIBERS, names.join("\n"));
        once(&mut task.envelope);
        match producer.send_one::<T>(task, None).await {
            Ok(_) => Ok(new),
            Err(EnqueueError::Conflict(Conflict::Id { .. } | Conflict::Unique { .. })) => Ok(known),
            Err(error) => Err(error),
        }
    }
}

/// Refuses other tasks of this id in the same queue, also for a while after it completes.
fn once(envelope: &mut Envelope) {
    envelope.unique = Some(Box::new(UniqueLock {
        key: UniqueKey::of_task(&envelope.id),
        until: UniqueUntil::Window,
        ttl: PUBLISH_WINDOW,
    }));
    if envelope.options.aggregate.is_some() {
        Arc::make_mut(&mut envelope.options).aggregate = None;
    }
}

impl<'a, T: Task> IntoFuture for Publish<'a, T> {
    type Output = Result<Published, EnqueueError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// The handler that delivers events from the outbox to their subscribers.
pub(crate) fn deliverer(broker: SharedBroker) -> BoxProcess {
    BoxProcess::from_fn(move |request| -> TaskFuture {
        let broker = Arc::clone(&broker);
        Box::pin(async move { deliver(&broker, &request.context).await })
    })
}

async fn deliver(broker: &SharedBroker, ctx: &Context) -> Result<TaskOutput, TaskError> {
    let event = ctx.envelope();
    let tasks = deliveries(event, broker.now());
    let queues: Vec<_> = tasks
        .iter()
        .map(|task| task.envelope.queue.clone())
        .collect();
    match broker.enqueue(tasks).await {
        Ok(answers) => {
            for (queue, answer) in queues.iter().zip(answers) {
                // A conflict means that it was delivered before.
                let result = match answer {
                    Ok(()) => EnqueueResult::Accepted,
                    Err(_) => EnqueueResult::Duplicate,
                };
                metrics::enqueued(queue, &event.event, result);
            }
            Ok(TaskOutput::default())
        }
        Err(error) => {
            tracing::warn!(task = %event.task_ref(), %error, "delivery of an event failed; retrying");
            Err(TaskError::snooze(RETRY_AFTER))
        }
    }
}

/// The task for each subscriber.
fn deliveries(event: &Envelope, now: Timestamp) -> Vec<NewTask> {
    let mut template = Envelope::with_options(
        event.id.clone(),
        event.event.clone(),
        event.codec.clone(),
        event.payload.clone(),
        Arc::clone(&event.options),
    );
    let own = event.headers.iter().filter(|(key, _)| *key != SUBSCRIBERS);
    template.headers = own.collect();
    template.enqueued_at = now;
    template.deadline = event.deadline;
    template.set_expires_at(event.expires_at());
    once(&mut template);
    let names = event.headers.get(SUBSCRIBERS).unwrap_or_default().lines();
    let delivery = |name| {
        let mut envelope = template.clone();
        envelope.queue = Subscription::queue_of(&event.event, name);
        NewTask::new(envelope, When::Now)
    };
    names.map(delivery).collect()
}
