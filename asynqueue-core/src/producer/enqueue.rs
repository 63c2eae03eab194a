//! A call of `enqueue` and its options.

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

/// A task to be enqueued: override options, then `.await` it.
#[must_use = "a task is enqueued once this is awaited"]
#[derive(Debug)]
pub struct Enqueue<'a, T> {
    pub(super) producer: &'a Producer,
    pub(super) task: T,
    pub(super) call: CallOptions,
}

/// The options of one call, which override those of the task's type.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    id: Option<String>,
    when: When,
    deadline: Option<When>,
    expires: Option<When>,
    headers: Headers,
    unique_key: Option<UniqueKey>,
    /// `None` for the broker's default.
    pub(super) durability: Option<Durability>,
    /// Overridden options of the task's type.
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

/// The minimum time to keep a completed task if its caller waits for it from the start. It must cover a reconnect of
/// the caller.
const KEPT_FOR_CALLER: Duration = Duration::from_secs(60);

/// Generates the setters twice: for a single call and for each of many.
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
        /// Runs the task after a delay, by the broker's clock.
    delay(delay: Duration) self => { self.when = When::After(delay); }

        /// Runs the task at this time, by the broker's clock, or immediately if the time has passed.
    at(time: impl Into<Timestamp>) self => { self.when = When::At(time.into()); }

        /// Enqueues the task to another queue than its type's.
    queue(queue: impl Into<Name>) self => { self.overrides().queue = Some(queue.into()); }

        /// Sets the task's id. By default one is generated. A second task with the same id in the queue is refused with
        /// [`Conflict::Id`](crate::broker::Conflict::Id), so that enqueueing can be repeated safely. The id is free
        /// again once the task is no longer stored.
    id(id: impl Into<String>) self => { self.id = Some(id.into()); }

        /// Makes the task unique: others with the same key are refused until it succeeds, but no longer than `ttl`.
    unique(ttl: Duration) self => { self = self.unique_until(UniqueUntil::Success, ttl); }

        /// Like [`unique`](Self::unique), with the lock released by `until`.
    unique_until(until: UniqueUntil, ttl: Duration) self => {
        self.overrides().unique = Some(Unique { until, ttl });
    }

        /// The key that makes the task unique. Default: its payload. Refused unless the type or this call makes the
        /// task unique.
    unique_key(key: impl Into<Box<str>>) self => { self.unique_key = Some(UniqueKey::new(key)); }

        /// The priority within the queue, from 0 to 9. Higher runs first.
    priority(priority: u8) self => { self.overrides().priority = Some(priority); }

        /// Adds a header to the task.
    header(key: impl Into<String>, value: impl Into<String>) self => { self.headers.insert(key, value); }

        /// How often the task is retried before it is archived.
    max_retry(max_retry: u32) self => { self.overrides().max_retry = Some(max_retry); }

        /// How long one attempt may take. At least 1 ms.
    timeout(timeout: Duration) self => { self.overrides().timeout = Some(timeout); }

        /// The time from now until which the task must be done; it is archived otherwise. Refused if a
        /// [delay](Self::delay) ends later.
    deadline(deadline: Duration) self => { self.deadline = Some(When::After(deadline)); }

        /// The time until which the task must be done; it is archived otherwise.
    deadline_at(time: impl Into<Timestamp>) self => { self.deadline = Some(When::At(time.into())); }

        /// How long to wait before each retry.
    backoff(backoff: Backoff) self => { self.overrides().backoff = Some(backoff); }

        /// How long the task and its result are kept after it completes.
    retention(retention: Duration) self => { self.overrides().retention = Some(retention); }

        /// The time from now until which the task must start; it is archived otherwise. This applies only to the first
        /// start: afterwards, retries, snoozes, lost workers and shutdowns may restart it at any time. In contrast, a
        /// [deadline](Self::deadline) applies to each attempt and ends a running one. Refused if a
        /// [delay](Self::delay) ends later.
    expires_in(time: Duration) self => { self.expires = Some(When::After(time)); }

        /// The time until which the task must start; it is archived otherwise. Like [`expires_in`](Self::expires_in),
        /// this applies only to the first start.
    expires_at(time: impl Into<Timestamp>) self => { self.expires = Some(When::At(time.into())); }

        /// Where the task must be stored before it counts as accepted. Default: the broker's setting. Fails with
        /// [`BrokerError::NotDurable`](crate::broker::BrokerError::NotDurable) if this is not confirmed in time; the
        /// task is enqueued then, and enqueueing it again under the same id is safe.
    durability(durability: Durability) self => { self.durability = Some(durability); }

        /// Labels the task as a member of a group.
    group(group: impl Into<Name>) self => { self.overrides().group = Some(group.into()); }

        /// Lets the task wait for others of its event and [group](Self::group), to become one task with them.
    aggregate(limits: Aggregate) self => { self.overrides().aggregate = Some(limits); }
}

impl CallOptions {
    fn overrides(&mut self) -> &mut Overrides {
        self.overrides.get_or_insert_default()
    }

    /// Refuses a durability if the tasks are not enqueued by this producer.
    pub(crate) fn refuse_durability<T: Task>(
        &self,
        expected: &'static str,
    ) -> Result<(), EnqueueError> {
        let Some(durability) = self.durability else {
            return Ok(());
        };
        invalid::<T, _>("durability", format!("`{durability}`"), expected)
    }

    /// The task to send to the broker.
    pub(crate) fn build<T: Task>(
        self,
        producer: &Producer,
        task: &T,
    ) -> Result<NewTask, EnqueueError> {
        self.build_after(None, producer, task)
    }

    /// The task to send to the broker after another one. A generated id sorts behind that of the other.
    pub(crate) fn build_after<T: Task>(
        self,
        previous: Option<&TaskId>,
        producer: &Producer,
        task: &T,
    ) -> Result<NewTask, EnqueueError> {
        let encode = |source| EnqueueError::Encode {
            event: T::EVENT,
            source,
        };
        // Drops spare capacity, which a waiting task would keep.
        let payload = T::Codec::encode_checked(task).map_err(encode)?;
        let payload = payload.into_boxed_slice();
        let now = producer.0.broker.now();
        let id = self
            .id
            .map_or_else(|| Ok(TaskId::generate_after(previous, now)), TaskId::new)?;
        let mut options = T::options();
        if let Some(overrides) = self.overrides {
            overrides.apply(Arc::make_mut(&mut options));
        }
        check::<T>(&options)?;

        if options.aggregate.is_some() && self.when != When::Now {
            let expected = "an aggregated task waits for its group; remove the delay";
            return invalid::<T, _>("delay", format!("{:?}", self.when), expected);
        }
        let time = |when| match when {
            When::Now => now,
            When::After(delay) => now + delay,
            When::At(time) => time,
        };
        let deadline = self.deadline.or(options.deadline.map(When::After));
        let start = time(self.when);
        for (option, end) in [("deadline", deadline), ("expires_in", self.expires)] {
            let Some(end) = end.map(time).filter(|end| start > now && *end <= start) else {
                continue;
            };
            let expected = "the task starts later than that, so it would never run; extend it, or shorten the delay";
            return invalid::<T, _>(option, format!("{:?} from now", end.since(now)), expected);
        }
        let unique = match options.unique {
            None => match self.unique_key {
                None => None,
                Some(key) => {
                    let expected = "the task is not unique; add `.unique(ttl)`";
                    return invalid::<T, _>("unique_key", format!("`{}`", key.as_str()), expected);
                }
            },
            Some(Unique { until, ttl }) => {
                let key = self
                    .unique_key
                    .map_or_else(|| task.unique_key(), Ok)
                    .map_err(encode)?;
                if key.as_str().contains('\0') {
                    let expected = "expected no character U+0000, which not every broker can store";
                    let shown = format!("`{}`", key.as_str().escape_debug());
                    return invalid::<T, _>("unique_key", shown, expected);
                }
                Some(Box::new(UniqueLock { key, until, ttl }))
            }
        };
        let event = Name::from_static(T::EVENT);
        let codec = CodecName::of::<T::Codec>();
        let mut envelope = Envelope::with_options(id, event, codec, Bytes::from(payload), options);
        envelope.headers = producer.0.inherited.with(self.headers);
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

/// Refuses options that would be stored but never work.
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
        // The event is part of the group's name in brokers.
        Name::from_static(T::EVENT).check_group()?;
    }
    if options.priority > MAX_PRIORITY {
        return invalid::<T, _>("priority", options.priority.to_string(), "expected 0 to 9");
    }
    if options.timeout < Duration::from_millis(1) {
        let expected = "expected at least 1ms; remove it for the default of 30 minutes";
        return invalid::<T, _>("timeout", format!("{:?}", options.timeout), expected);
    }
    if options.unique.is_some_and(|unique| unique.ttl.is_zero()) {
        let expected = "expected a ttl above zero";
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

    /// Enqueues the task and waits until it completes, as [`TaskHandle::result`] does. Works for tasks of any type:
    /// a task without retention is kept for a minute.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynqueue_core::{
    ///     memory::MemoryBroker,
    ///     process::{Payload, TaskError},
    ///     producer::Producer,
    ///     server::Server,
    /// };
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
    /// As for enqueueing the task and then [waiting for it](TaskHandle::result).
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
