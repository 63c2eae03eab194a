//! One call of `enqueue`, and what it sets.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use super::{EnqueueError, Producer, ResultError, TaskHandle, note_refused};
use crate::{
    broker::{Durability, NewTask, When},
    codec::{Codec, CodecName},
    task::{
        Aggregate, Backoff, Envelope, Headers, MAX_PRIORITY, Name, Task, TaskId, TaskOptions,
        Timestamp, Unique, UniqueKey, UniqueLock, UniqueUntil,
    },
};

/// A task about to be enqueued: set what differs, then `.await` it.
#[must_use = "a task is enqueued once this is awaited"]
#[derive(Debug)]
pub struct Enqueue<'a, T> {
    pub(super) producer: &'a Producer,
    pub(super) task: T,
    pub(super) call: CallOptions,
}

/// What one call sets, in place of the task type's own options.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    id: Option<String>,
    when: When,
    deadline: Option<When>,
    expires: Option<When>,
    headers: Headers,
    unique_key: Option<UniqueKey>,
    /// That of the broker, if none is set.
    pub(super) durability: Option<Durability>,
    /// Changes to the options of the task's type, in the order they were made.
    overrides: Option<Box<Overrides>>,
}

#[derive(Clone, Debug, Default)]
struct Overrides {
    queue: Option<Name>,
    max_retry: Option<u32>,
    timeout: Option<Duration>,
    backoff: Option<Backoff>,
    unique: Option<Unique>,
    retention: Option<Duration>,
    priority: Option<u8>,
    group: Option<Name>,
    aggregate: Option<Aggregate>,
}

/// The shortest time that a task is kept once it is done if its caller waits for it from the start. It has to last
/// while that caller connects again.
const KEPT_FOR_CALLER: Duration = Duration::from_secs(60);

/// Writes the setters twice, for a single call and for each of many.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) $self:ident => $body:block)*) => {
        impl CallOptions {
            $($(#[$doc])* #[must_use] pub fn $name(mut $self, $($arg: $type),*) -> Self { $body $self })*
        }

        impl<T: Task> Enqueue<'_, T> {
            $($(#[$doc])* pub fn $name(mut self, $($arg: $type),*) -> Self {
                self.call = self.call.$name($($arg),*);
                self
            })*
        }
    };
}

setters! {
    /// Runs it this long from now, by the broker's clock.
    delay(delay: Duration) self => { self.when = When::After(delay); }

    /// Runs it at this time, by the broker's clock; at once if that has passed.
    at(time: impl Into<Timestamp>) self => { self.when = When::At(time.into()); }

    /// Puts it in another queue.
    queue(queue: impl Into<Name>) self => { self.overrides().queue = Some(queue.into()); }

    /// Gives it an id, in place of a generated one. A second task with the same id in its queue is refused with
    /// [`Conflict::Id`](crate::Conflict::Id), so that enqueueing can be repeated safely. The id is free again once
    /// the task is gone.
    id(id: impl Into<String>) self => { self.id = Some(id.into()); }

    /// Refuses it while another with the same key is there, until it succeeds but no longer than `ttl`.
    unique(ttl: Duration) self => { self = self.unique_until(UniqueUntil::Success, ttl); }

    /// As [`unique`](Self::unique), with the lock released by `until`.
    unique_until(until: UniqueUntil, ttl: Duration) self => {
        self.overrides().unique = Some(Unique { until, ttl });
    }

    /// What makes it unique, in place of its payload. Refused for a task that is not unique, by its type or by this call.
    unique_key(key: impl Into<Box<str>>) self => { self.unique_key = Some(UniqueKey::new(key)); }

    /// 0 to 9; within its queue, higher runs first.
    priority(priority: u8) self => { self.overrides().priority = Some(priority); }

    /// Sends a key-value pair along.
    header(key: impl Into<String>, value: impl Into<String>) self => { self.headers.insert(key, value); }

    /// How often it is retried before it is archived.
    max_retry(max_retry: u32) self => { self.overrides().max_retry = Some(max_retry); }

    /// How long one attempt may take.
    timeout(timeout: Duration) self => { self.overrides().timeout = Some(timeout); }

    /// How long from now it is worth running: past that it is archived.
    deadline(deadline: Duration) self => { self.deadline = Some(When::After(deadline)); }

    /// Until when it is worth running: past that it is archived.
    deadline_at(time: impl Into<Timestamp>) self => { self.deadline = Some(When::At(time.into())); }

    /// How long to wait before each retry.
    backoff(backoff: Backoff) self => { self.overrides().backoff = Some(backoff); }

    /// How long it and its result are kept once it is completed.
    retention(retention: Duration) self => { self.overrides().retention = Some(retention); }

    /// How long from now it is worth starting: if no worker has begun by then, it is archived. It concerns the first start alone:
    /// once begun, a task is retried, resumed after a snooze, and started again after a lost worker or a shutdown at any time.
    /// A [deadline](Self::deadline) concerns each attempt, and ends one that runs.
    expires_in(time: Duration) self => { self.expires = Some(When::After(time)); }

    /// Until when it is worth starting: if no worker has begun by then, it is archived. As
    /// [`expires_in`](Self::expires_in), it concerns the first start alone.
    expires_at(time: impl Into<Timestamp>) self => { self.expires = Some(When::At(time.into())); }

    /// What has to have the task before it counts as accepted, in place of what the broker is set to. It fails with
    /// [`BrokerError::NotDurable`](crate::BrokerError::NotDurable) if that is not so in time; then the task is there, and enqueueing it
    /// again under the same id is safe.
    durability(durability: Durability) self => { self.durability = Some(durability); }

    /// Labels it as one of a group.
    group(group: impl Into<Name>) self => { self.overrides().group = Some(group.into()); }

    /// Lets it wait for others of its event and [group](Self::group), to become one task with them.
    aggregate(limits: Aggregate) self => { self.overrides().aggregate = Some(limits); }
}

impl CallOptions {
    fn overrides(&mut self) -> &mut Overrides {
        self.overrides.get_or_insert_default()
    }

    /// Refuses a durability where the tasks are enqueued by others.
    pub(crate) fn refuse_durability<T: Task>(
        &self,
        expected: &'static str,
    ) -> Result<(), EnqueueError> {
        let Some(durability) = self.durability else {
            return Ok(());
        };
        invalid::<T, _>("durability", format!("`{durability}`"), expected)
    }

    /// The task as it goes to the broker.
    pub(crate) fn build<T: Task>(
        self,
        producer: &Producer,
        task: &T,
    ) -> Result<NewTask, EnqueueError> {
        let encode = |source| EnqueueError::Encode {
            event: T::EVENT,
            source,
        };
        // Without spare capacity, which a waiting task would keep.
        let payload = T::Codec::encode_checked(task).map_err(encode)?;
        let payload = payload.into_boxed_slice();
        let now = producer.0.broker.now();
        let id = self
            .id
            .map_or_else(|| Ok(TaskId::generate_at(now)), TaskId::new)?;
        let mut options = T::options();
        if let Some(overrides) = self.overrides {
            overrides.apply(Arc::make_mut(&mut options));
        }
        check::<T>(&options)?;

        if options.aggregate.is_some() && self.when != When::Now {
            let expected = "a task that is aggregated waits for its group: leave the delay out";
            return invalid::<T, _>("delay", format!("{:?}", self.when), expected);
        }
        let time = |when| match when {
            When::Now => now,
            When::After(delay) => now + delay,
            When::At(time) => time,
        };
        let deadline = self.deadline.or(options.deadline.map(When::After));
        let unique = match options.unique {
            None => match self.unique_key {
                None => None,
                Some(key) => {
                    let expected = "there is no lock to take under it; add `.unique(ttl)`";
                    return invalid::<T, _>("unique_key", format!("`{}`", key.as_str()), expected);
                }
            },
            Some(Unique { until, ttl }) => {
                let key = self
                    .unique_key
                    .map_or_else(|| task.unique_key(), Ok)
                    .map_err(encode)?;
                Some(Box::new(UniqueLock { key, until, ttl }))
            }
        };
        let event = Name::from_static(T::EVENT);
        let codec = CodecName::of::<T::Codec>();
        let mut envelope = Envelope::with_options(id, event, codec, Bytes::from(payload), options);
        envelope.headers = self.headers;
        envelope.enqueued_at = now;
        envelope.deadline = deadline.map(time);
        envelope.set_expires_at(self.expires.map(time));
        envelope.unique = unique;
        producer.check_size(&envelope)?;
        Ok(NewTask::new(envelope, self.when))
    }
}

impl Overrides {
    fn apply(self, options: &mut TaskOptions) {
        let Self {
            queue,
            max_retry,
            timeout,
            backoff,
            unique,
            retention,
            priority,
            group,
            aggregate,
        } = self;
        set(&mut options.queue, queue);
        set(&mut options.max_retry, max_retry);
        set(&mut options.timeout, timeout);
        set(&mut options.backoff, backoff);
        set(&mut options.retention, retention);
        set(&mut options.priority, priority);
        options.unique = unique.or(options.unique);
        options.group = group.or(options.group.take());
        options.aggregate = aggregate.or(options.aggregate);
    }
}

fn set<V>(option: &mut V, value: Option<V>) {
    if let Some(value) = value {
        *option = value;
    }
}

fn invalid<T: Task, R>(
    option: &'static str,
    value: String,
    expected: &'static str,
) -> Result<R, EnqueueError> {
    Err(EnqueueError::InvalidOption {
        event: T::EVENT,
        option,
        value,
        expected,
    })
}

/// Refuses what would be kept and then never work.
fn check<T: Task>(options: &TaskOptions) -> Result<(), EnqueueError> {
    options.queue.check_queue()?;
    if let Some(group) = &options.group {
        group.check_group()?;
    }
    if let Some(limits) = &options.aggregate {
        let invalid = |source| EnqueueError::InvalidAggregate {
            event: T::EVENT,
            source,
        };
        limits.check().map_err(invalid)?;
        // It is part of how brokers name the group.
        Name::from_static(T::EVENT).check_group()?;
    }
    if options.priority > MAX_PRIORITY {
        return invalid::<T, _>(
            "priority",
            options.priority.to_string(),
            "it goes from 0 to 9",
        );
    }
    if options.timeout < Duration::from_millis(1) {
        let expected = "an attempt needs at least 1ms; leave it out for 30 minutes";
        return invalid::<T, _>("timeout", format!("{:?}", options.timeout), expected);
    }
    if options.unique.is_some_and(|unique| unique.ttl.is_zero()) {
        let expected = "its ttl must be longer, for the lock to be held at all";
        return invalid::<T, _>("unique", "0s".into(), expected);
    }
    Ok(())
}

impl<'a, T: Task> Enqueue<'a, T> {
    pub(super) fn new(producer: &'a Producer, task: T) -> Self {
        Self {
            producer,
            task,
            call: CallOptions::default(),
        }
    }

    /// Enqueues it and waits until it is done, as [`TaskHandle::result`] does. This works for tasks of any type: one that
    /// would be gone at its end is kept for a minute.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynqueue_core::{MemoryBroker, Payload, Producer, Server, TaskError};
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "cache:clear", crate = asynqueue_core)]
    /// # struct ClearCache;
    ///
    /// async fn clear(_: Payload<ClearCache>) -> Result<(), TaskError> {
    ///     Ok(())
    /// }
    ///
    /// let broker = MemoryBroker::new();
    /// let server = Server::builder(broker.clone()).process(clear).start().await?;
    /// Producer::new(broker).enqueue(ClearCache).result().await?;
    /// # server.shutdown().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As for a task that is enqueued and then [waited for](TaskHandle::result).
    pub async fn result(mut self) -> Result<T::Output, ResultError> {
        let retention = &mut self.call.overrides().retention;
        let wanted = retention.unwrap_or_else(|| T::options().retention);
        *retention = Some(wanted.max(KEPT_FOR_CALLER));
        let task = self.send().await.map_err(Box::new)?;
        task.result().await
    }

    async fn send(self) -> Result<TaskHandle<T>, EnqueueError> {
        let durability = self.call.durability;
        let task = self.call.build(self.producer, &self.task);
        let task = task.inspect_err(|_| note_refused::<T>(1))?;
        self.producer.send_one(task, durability).await
    }
}

impl<'a, T: Task> IntoFuture for Enqueue<'a, T> {
    type Output = Result<TaskHandle<T>, EnqueueError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
