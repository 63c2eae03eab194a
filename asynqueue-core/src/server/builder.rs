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
    pub(super) queues: Vec<(Name, u32)>,
    pub(super) queue_limits: Vec<(Name, usize)>,
    pub(crate) strict: bool,
    pub(super) processes: Vec<ProcessWrapper>,
    pub(super) registered: bool,
    /// Name and process of each.
    pub(super) subscribers: Vec<(Name, ProcessWrapper)>,
    pub(super) aggregators: Vec<Aggregator>,
    /// What an aggregating function makes, if that is to be aggregated itself.
    pub(super) aggregated_again: Option<(Name, Name)>,
    pub(super) layers: Vec<ApplyLayer>,
    pub(crate) state: ServerState,
    pub(super) max_abandoned: Option<usize>,
    /// What a configuration asks for that a server does not run.
    pub(crate) beyond: Option<Beyond>,
    pub(crate) settings: Settings,
}

/// A setting of a part of a program that is beside its server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beyond {
    pub(crate) section: &'static str,
    pub(crate) key: &'static str,
}

/// Less than this can't be extended in time.
pub(crate) const SHORTEST_LEASE: Duration = Duration::from_millis(30);

/// Less than this is no wait.
pub(crate) const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

type ApplyLayer = Box<dyn Fn(BoxProcess) -> BoxProcess + Send + Sync>;

impl ServerBuilder {
    pub(super) fn new(broker: SharedBroker) -> Self {
        Self {
            broker,
            name: None,
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

    /// Takes tasks from a queue, with a weight: while both have tasks, a queue of weight 6 gets twice the turns of one
    /// of weight 3. By default the server takes, with equal weights, from the queues that the types of its processes
    /// name.
    pub fn queue(mut self, name: impl Into<Name>, weight: u32) -> Self {
        self.queues.push((name.into(), weight));
        self
    }

    /// Runs at most `max` tasks of this queue at once, on this server.
    pub fn queue_concurrency(mut self, name: impl Into<Name>, max: usize) -> Self {
        self.queue_limits.push((name.into(), max));
        self
    }

    /// Takes from a queue only while those of a higher weight are empty. By default turns are shared by weight, so
    /// that none starves.
    pub fn strict_priority(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Runs at most `max` tasks at once. Default 16.
    pub fn concurrency(mut self, max: usize) -> Self {
        self.settings.concurrency = max;
        self
    }

    /// Mounts a process: a [`Process`], an async function or a [`ProcessWrapper`]. A process of several types
    /// of tasks is mounted once for each, by [`process_for`](Self::process_for).
    pub fn process<M>(
        mut self,
        process: impl IntoProcess<M>, // of several types of tasks: `.process_for::<T>(…)`
    ) -> Self {
        self.processes.push(process.into_process());
        self
    }

    /// Mounts a process for the tasks of type `T`: a type that implements [`Process`] for several types is mounted once for
    /// each.
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

    /// Mounts a plain function that computes for long or blocks its thread. Each call runs on a thread of its own, bounded and
    /// accounted for as [`Context::run_blocking`] says; look at `ctx.is_cancelled()` to stop early.
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

    /// Mounts every process that `#[task(process = …)]` registers in this program, built from the
    /// [state](Self::state).
    pub fn registered(mut self) -> Self {
        self.registered = true;
        self
    }

    /// Subscribes a process to an event: it gets a task for each that is [published](crate::producer::Producer::publish) from now on,
    /// in a queue of its own, named `subscriber@event`. A subscriber stays known when its servers stop, and finds what was
    /// published meanwhile when they come back; [`Subscriptions::unsubscribe`](crate::broker::Subscriptions::unsubscribe) ends it.
    /// The name has no `@`, and the event is that of the payload's type.
    /// Servers that use the same name share one queue, and each event goes to one of them.
    pub fn subscribe<M>(
        mut self,
        subscriber: impl Into<Name>,
        process: impl IntoProcess<M>,
    ) -> Self {
        self.subscribers
            .push((subscriber.into(), process.into_process()));
        self
    }

    /// Makes one task of the members of a group, for tasks that are [aggregated](crate::task::Aggregate): the function is given
    /// their payloads, oldest first. It may be called again for the same tasks, as after a crash, and only one of the tasks
    /// that it makes is kept: so let it do nothing else. The new task is put into the queue of its members, and has their
    /// group as its own.
    ///
    /// Members that could not become one task leave their group, and are tried again by themselves: by their backoff, and
    /// up to their `max_retry` before they are archived. After three tries they are halved, until the cause is alone.
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

    /// Puts a [`tower::Layer`](Layer) around every process. The first one added is the outermost, as in
    /// [`tower::ServiceBuilder`](https://docs.rs/tower/latest/tower/struct.ServiceBuilder.html).
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<BoxProcess, Service: TaskService> + Send + Sync + 'static,
    {
        self.layers.push(Box::new(move |inner| inner.wrap(&layer)));
        self
    }

    /// Runs a hook around every process, and for every task that this server archives, with or without a process.
    pub fn hook(self, hook: impl Hook) -> Self {
        self.layer(HookLayer::new(hook))
    }

    /// Shares a value with all processes, by its type. A function takes it as an argument of type
    /// [`State<T>`](crate::process::State), which is checked when the server is built; see also [`FromState`](crate::process::FromState)
    /// and [`Context::state`].
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.state.insert(value);
        self
    }

    /// Names this server among all that work for the broker. By default made of host, process and a random part.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How long a task stays with this server after the last heartbeat, which it sends each third of this. A task of a
    /// server that died runs elsewhere after this long, half as long again, and up to 4 s. Servers that share a queue should
    /// use the same length. Default 30 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// How often to look for tasks while the broker gives no signals, as after a lost connection. While it does, each queue is
    /// looked at once in ten of these, and at most ten queues a second. Default 1 s.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.settings.poll_interval = interval;
        self
    }

    /// How long to wait on shutdown for what runs. Default 20 s.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.settings.shutdown_timeout = timeout;
        self
    }

    /// How long a task that is cancelled, or still runs when the shutdown timeout is up, may take to stop by itself
    /// before it is dropped. Default 1 s.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.settings.cancel_grace = grace;
        self
    }

    /// How large an encoded result may be, in bytes. A task that returns a larger one is archived, since its work is done and would
    /// end the same way again. Default [16 MiB](crate::process::DEFAULT_MAX_RESULT).
    pub fn max_result(mut self, bytes: usize) -> Self {
        self.state.insert(MaxResult(bytes));
        self
    }

    /// How many handlers may still run after their slot was given up, because they block their thread past their
    /// deadline. At that number, slots are not replaced any more and the server runs fewer tasks. By default as many
    /// as the concurrency.
    pub fn max_abandoned(mut self, max: usize) -> Self {
        self.max_abandoned = Some(max);
        self
    }

    /// For how long a task is given back whose event no process of this server handles, so that another server can run
    /// it, as in a rolling deploy or where services share a queue. Each time it comes back later, from 1 s up to 60 s,
    /// and no attempt counts. When it has been given back for this long it is archived, with the reason. Zero archives it
    /// at once. Default 1 h.
    pub fn unknown_event_grace(mut self, grace: Duration) -> Self {
        self.settings.unknown_event_grace = grace;
        self
    }

    /// What happens to a task whose payload cannot be decoded. By default that is a failure like any other, and is
    /// retried: in a rolling deploy another server may be able to decode it.
    pub fn on_decode_error(mut self, on_decode_error: OnDecodeError) -> Self {
        self.state.insert(on_decode_error);
        self
    }

    /// Which archived tasks are kept.
    pub fn keep_archived(mut self, keep: Keep) -> Self {
        self.settings.keep = keep;
        self
    }

    /// Which errors count as an attempt; the others are retried without end, by the backoff of the attempt they would
    /// have been. By default all count.
    pub fn is_failure(
        mut self,
        is_failure: impl Fn(&TaskError) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.state.insert(IsFailure(Box::new(is_failure)));
        self
    }

    /// Whether to log failures, under the target `asynqueue::failures`: a warning for each failed attempt, within its span
    /// if it has one, and an error for each task that is archived because of a failure. Default true.
    pub fn log_failures(mut self, log: bool) -> Self {
        self.settings.log_failures = log;
        self
    }

    /// Calls `on_error` for every attempt on this server that counts as failed. An attempt whose worker was lost has no context to
    /// call it with; [`Hook::on_archived`] is called for every task that ends in the archive.
    pub fn on_error(
        mut self,
        on_error: impl Fn(&Context, &TaskError) + Send + Sync + 'static,
    ) -> Self {
        self.settings.on_error = Some(Arc::new(on_error));
        self
    }

    /// Calls `check` at each interval with whether the broker answers.
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
    /// As [`build`](Self::build), or when the broker does not answer.
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
    /// As [`build`](Self::build), or when the broker does not answer at first.
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
