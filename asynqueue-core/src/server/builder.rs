//! Setting up a server.

use std::{future::Future, sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{ServerError, ServerHandle, aggregate::Aggregator, settings::Settings};
use crate::{
    broker::{BrokerError, Keep, SharedBroker},
    layer::{BoxProcess, Hook, HookLayer, TaskService},
    process::{Context, IsFailure, MaxResult, OnDecodeError, Process, ServerState, TaskError},
    registry::{IntoBlockingProcess, IntoProcess, ProcessWrapper},
    task::{Name, Task},
};

/// Sets up a [`Server`](crate::server::Server).
#[must_use = "a server does nothing until it runs"]
pub struct ServerBuilder {
    pub(super) broker: SharedBroker,
    pub(super) name: Option<Name>,
    pub(super) version: Option<String>,
    pub(super) queues: Vec<(Name, u32)>,
    pub(super) queue_limits: Vec<(Name, usize)>,
    pub(crate) strict: bool,
    pub(super) processes: Vec<ProcessWrapper>,
    pub(super) registered: bool,
    /// Name and handler of each.
    pub(super) subscribers: Vec<(Name, ProcessWrapper)>,
    pub(super) aggregators: Vec<Aggregator>,
    /// Events of a combined task that would be aggregated again, and of its members.
    pub(super) aggregated_again: Option<(Name, Name)>,
    pub(super) layers: Vec<ApplyLayer>,
    pub(crate) state: ServerState,
    pub(super) max_abandoned: Option<usize>,
    /// A configured part that a server does not run.
    pub(crate) beyond: Option<Beyond>,
    pub(crate) settings: Settings,
}

/// A setting that belongs to a part of the program outside the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beyond {
    pub(crate) section: &'static str,
    pub(crate) key: &'static str,
}

/// A shorter lease could expire before it is extended.
pub(crate) const SHORTEST_LEASE: Duration = Duration::from_millis(30);

/// A shorter interval would be a busy loop.
pub(crate) const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

type ApplyLayer = Box<dyn Fn(BoxProcess) -> BoxProcess + Send + Sync>;

impl ServerBuilder {
    pub(super) fn new(broker: SharedBroker) -> Self {
        Self {
            broker,
            name: None,
            version: None,
            queues: Vec::new(),
            queue_limits: Vec::new(),
            strict: false,
            processes: Vec::new(),
            registered: false,
            subscribers: Vec::new(),
            aggregators: Vec::new(),
            aggregated_again: None,
            layers: Vec::new(),
            state: ServerState::default(),
            max_abandoned: None,
            beyond: None,
            settings: Settings::default(),
        }
    }

    /// Leases from this queue, with a weight: while both have tasks, a queue of weight 6 gets twice the turns of one of
    /// weight 3. Default: the queues named by the task types of the registered handlers, with equal weights.
    pub fn queue(mut self, name: impl Into<Name>, weight: u32) -> Self {
        self.queues.push((name.into(), weight));
        self
    }

    /// Runs at most `max` tasks of this queue concurrently on this server. Default: limited only by the concurrency.
    pub fn queue_concurrency(mut self, name: impl Into<Name>, max: usize) -> Self {
        self.queue_limits.push((name.into(), max));
        self
    }

    /// Leases from a queue only while all queues of a higher weight are empty. By default the queues share turns by
    /// weight, so that no queue starves.
    pub fn strict_priority(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Sets how many tasks run concurrently. Default 16, at most 1,000,000.
    pub fn concurrency(mut self, max: usize) -> Self {
        self.settings.concurrency = max;
        self
    }

    /// Registers a handler: a [`Process`], an async function or a [`ProcessWrapper`]. Register a type that handles
    /// several types of tasks once for each, with [`process_for`](Self::process_for).
    pub fn process<M>(
        mut self,
        process: impl IntoProcess<M>, // handles several types of tasks: use `.process_for::<T>(…)`
    ) -> Self {
        self.processes.push(process.into_process());
        self
    }

    /// Registers a handler for the tasks of type `T`. A type that implements [`Process`] for several types is
    /// registered once for each.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynqueue_core::{
    ///     memory::MemoryBroker,
    ///     process::{Context, Payload, Process, TaskError},
    ///     server::Server,
    /// };
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "email:welcome", crate = asynqueue_core)]
    /// # struct Welcome;
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "email:goodbye", crate = asynqueue_core)]
    /// # struct Goodbye;
    ///
    /// #[derive(Clone)]
    /// struct Mailer;
    ///
    /// impl Process<Welcome> for Mailer {
    ///     // …
    /// #   async fn handle(&self, _: Payload<Welcome>, _: &Context) -> Result<(), TaskError> { Ok(()) }
    /// }
    ///
    /// impl Process<Goodbye> for Mailer {
    ///     // …
    /// #   async fn handle(&self, _: Payload<Goodbye>, _: &Context) -> Result<(), TaskError> { Ok(()) }
    /// }
    ///
    /// Server::builder(MemoryBroker::new())
    ///     .process_for::<Welcome>(Mailer)
    ///     .process_for::<Goodbye>(Mailer)
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    pub fn process_for<T: Task>(mut self, process: impl Process<T>) -> Self {
        self.processes.push(ProcessWrapper::of(process));
        self
    }

    /// Registers a synchronous function that computes for long or blocks its thread. Each call runs on its own thread,
    /// under the limits described at [`Context::run_blocking`]. Check `ctx.is_cancelled()` to stop early.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynqueue_core::{
    ///     memory::MemoryBroker,
    ///     process::{Context, Payload, TaskError},
    ///     server::Server,
    /// };
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "image:resize", crate = asynqueue_core)]
    /// # struct Resize { path: String }
    /// fn resize(task: Payload<Resize>, ctx: Context) -> Result<(), TaskError> {
    ///     let image = std::fs::read(&task.path)?;
    ///     for row in image.chunks(4_096) {
    ///         if ctx.is_cancelled() {
    ///             return Err(TaskError::retry("stopped"));
    ///         }
    ///         // …
    /// #       drop(row);
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let server = Server::builder(MemoryBroker::new()).process_blocking(resize).start().await?;
    /// # server.shutdown().await?;
    /// # Ok(()) }
    /// ```
    pub fn process_blocking<M>(mut self, function: impl IntoBlockingProcess<M>) -> Self {
        self.processes.push(function.into_blocking_process());
        self
    }

    /// Registers all handlers that `#[task(process = …)]` declares in this program, built from the
    /// [state](Self::state).
    pub fn registered(mut self) -> Self {
        self.registered = true;
        self
    }

    /// Subscribes a handler to an event. The subscriber gets a task for each payload
    /// [published](crate::producer::Producer::publish) from then on, in its own queue, named `subscriber@event`. The
    /// event is that of the payload's type.
    ///
    /// A subscription outlives its servers: tasks published while they are stopped wait in the queue.
    /// [`Subscriptions::unsubscribe`](crate::broker::Subscriptions::unsubscribe) ends it.
    /// Servers that use the same name share one queue, and each task runs on one of them. The name must not contain
    /// `@`.
    pub fn subscribe<M>(
        mut self,
        subscriber: impl Into<Name>,
        process: impl IntoProcess<M>,
    ) -> Self {
        self.subscribers
            .push((subscriber.into(), process.into_process()));
        self
    }

    /// Combines the members of a group into one task, for tasks that are [aggregated](crate::task::Aggregate). The
    /// function receives their payloads, oldest first. The new task is put into the queue of its members and keeps
    /// their group.
    ///
    /// The function may run again for the same tasks, for example after a crash, and only one of the resulting tasks is
    /// kept. It must not have side effects.
    ///
    /// Members that could not be combined leave their group and are retried together, with their backoff and up to
    /// their `max_retry`, before they are archived. After three tries the batch is split in halves until the failing
    /// task is alone.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynqueue_core::{
    ///     memory::MemoryBroker,
    ///     process::{Context, Payload, TaskError},
    ///     server::Server,
    /// };
    /// # use serde::{Serialize, Deserialize};
    /// # use asynqueue_macros::Task;
    ///
    /// #[derive(Serialize, Deserialize, Task)]
    /// #[task(event = "notify", aggregate(grace = "5s", max_delay = "1m", max_size = 50))]
    /// # #[task(crate = asynqueue_core)]
    /// struct Notify { text: String }
    ///
    /// #[derive(Serialize, Deserialize, Task)]
    /// #[task(event = "digest")]
    /// # #[task(crate = asynqueue_core)]
    /// struct Digest { texts: Vec<String> }
    ///
    /// async fn send(digest: Payload<Digest>, _: Context) -> Result<(), TaskError> {
    ///     println!("{} news", digest.texts.len());
    ///     Ok(())
    /// }
    ///
    /// let server = Server::builder(MemoryBroker::new())
    ///     .aggregate(|news: Vec<Notify>| Digest { texts: news.into_iter().map(|one| one.text).collect() })
    ///     .process(send)
    ///     .start().await?;
    /// # server.shutdown().await?;
    /// # Ok(()) }
    /// ```
    pub fn aggregate<T: Task, U: Task>(
        mut self,
        combine: impl Fn(Vec<T>) -> U + Send + Sync + 'static,
    ) -> Self {
        if U::options().aggregate.is_some() {
            self.aggregated_again = Some((T::EVENT.into(), U::EVENT.into()));
        }
        self.aggregators.push(Aggregator::new(combine));
        self
    }

    /// Wraps every handler in a [`tower::Layer`](Layer). The first layer added is the outermost, as in
    /// [`tower::ServiceBuilder`](https://docs.rs/tower/latest/tower/struct.ServiceBuilder.html).
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<BoxProcess, Service: TaskService> + Send + Sync + 'static,
    {
        self.layers.push(Box::new(move |inner| inner.wrap(&layer)));
        self
    }

    /// Wraps every handler in a hook. It also sees every task that this server archives, with or without a handler.
    pub fn hook(self, hook: impl Hook) -> Self {
        self.layer(HookLayer::new(hook))
    }

    /// Shares a value with all handlers, by its type. A function takes it as an argument of type
    /// [`State<T>`](crate::process::State), which is checked when the server is built. See also
    /// [`FromState`](crate::process::FromState) and [`Context::state`].
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.state.insert(value);
        self
    }

    /// Names this server, uniquely among the servers of the broker. Default: host name, process id and a random suffix.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the version of the program, which the server [reports](crate::broker::ServerInfo::version). Default: none.
    ///
    /// ```
    /// # use asynqueue_core::{memory::MemoryBroker, server::Server};
    /// let builder = Server::builder(MemoryBroker::new()).version(env!("CARGO_PKG_VERSION"));
    /// # drop(builder);
    /// ```
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Sets how long a lease is valid without a heartbeat. A heartbeat is sent every third of this. If the server dies,
    /// its tasks run elsewhere after 1.5 times this, plus up to 4 s. Servers that share a queue should use the same
    /// value. Default 30 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// Sets how often queues are polled while the broker sends no signals, for example after a lost connection. While
    /// it does, each queue is polled once in ten intervals, and at most ten queues a second. Default 1 s.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.settings.poll_interval = interval;
        self
    }

    /// Sets how long a shutdown waits for running tasks. Default 20 s.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.settings.shutdown_timeout = timeout;
        self
    }

    /// Sets how long a task may take to stop after it is cancelled or the shutdown timeout has elapsed, before its slot
    /// is abandoned. Default 1 s.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.settings.cancel_grace = grace;
        self
    }

    /// Sets the maximum size of an encoded result, in bytes. A task with a larger result is archived: its work is done,
    /// and a retry would fail the same way. Default [16 MiB](crate::process::DEFAULT_MAX_RESULT).
    pub fn max_result(mut self, bytes: usize) -> Self {
        self.state.insert(MaxResult(bytes));
        self
    }

    /// Sets how many abandoned handlers may still be running, because they block their thread past their deadline. At
    /// this number, abandoned slots are no longer replaced and the server runs fewer tasks. Default: the concurrency.
    pub fn max_abandoned(mut self, max: usize) -> Self {
        self.max_abandoned = Some(max);
        self
    }

    /// Sets how long tasks of an event without a handler on this server are released for other servers, for example in
    /// a rolling deploy or where services share a queue. Each release delays the task longer, from 1 s to 60 s, and
    /// counts no attempt. After this long the task is archived, with the reason. Zero archives it immediately. Default
    /// 1 h.
    pub fn unknown_event_grace(mut self, grace: Duration) -> Self {
        self.settings.unknown_event_grace = grace;
        self
    }

    /// Sets what happens to a task whose payload cannot be decoded. By default it fails and is retried: in a rolling
    /// deploy another server may be able to decode it.
    pub fn on_decode_error(mut self, on_decode_error: OnDecodeError) -> Self {
        self.state.insert(on_decode_error);
        self
    }

    /// Sets which archived tasks are kept, by number and age.
    pub fn keep_archived(mut self, keep: Keep) -> Self {
        self.settings.keep = keep;
        self
    }

    /// Sets which errors count as an attempt. All others are retried without limit, with the backoff of the current
    /// attempt. By default all errors count.
    pub fn is_failure(
        mut self,
        is_failure: impl Fn(&TaskError) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.state.insert(IsFailure(Box::new(is_failure)));
        self
    }

    /// Sets whether failures are logged, under the target `asynqueue::failures`: a warning for each failed attempt,
    /// within its span if it has one, and an error for each task archived because of a failure. Default true.
    pub fn log_failures(mut self, log: bool) -> Self {
        self.settings.log_failures = log;
        self
    }

    /// Calls `on_error` for every attempt on this server that counts as failed. An attempt whose worker was lost has no
    /// context, so it is not reported here; [`Hook::on_archived`] is called for every archived task.
    pub fn on_error(
        mut self,
        on_error: impl Fn(&Context, &TaskError) + Send + Sync + 'static,
    ) -> Self {
        self.settings.on_error = Some(Arc::new(on_error));
        self
    }

    /// Pings the broker at each interval and calls `check` with the result.
    pub fn health_check(
        mut self,
        interval: Duration,
        check: impl Fn(Result<(), BrokerError>) + Send + Sync + 'static,
    ) -> Self {
        self.settings.health_check = Some((interval, Arc::new(check)));
        self
    }

    /// Builds the server and starts it in the background.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build), or if the broker does not respond.
    pub async fn start(self) -> Result<ServerHandle, ServerError> {
        let server = self.build()?;
        server.shared.broker.ping().await?;
        server.shared.subscribe().await?;
        Ok(server.start())
    }

    /// Builds the server and runs it until `shutdown` completes: see [`Server::run`](crate::server::Server::run) and
    /// [`shutdown_signal`](crate::server::shutdown_signal).
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build), or if the broker does not respond at the start.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), ServerError> {
        let server = self.build()?;
        server.shared.broker.ping().await?;
        server.run(shutdown).await
    }
}

impl std::fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("name", &self.name)
            .field("queues", &self.queues)
            .field("queue_limits", &self.queue_limits)
            .field("strict", &self.strict)
            .field("processes", &self.processes)
            .field("max_abandoned", &self.max_abandoned)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
