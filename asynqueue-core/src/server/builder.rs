//! Setting up a server.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tower::Layer;

use super::{
    Counters, Server, ServerError, ServerHandle, Shared, inbox::Inbox, queues::QueueSet,
    running::Slots, settings::Settings, settle::Outbox,
};
use crate::{
    broker::{BrokerError, Keep, SharedBroker},
    layer::{BoxProcess, Hook, HookLayer, TaskService},
    process::{Context, IsFailure, State, TaskError},
    registry::{IntoProcess, ProcessWrapper, Registration, Registry},
    task::{Name, TaskId},
};

/// Sets up a [`Server`].
#[must_use = "a server does nothing until it runs"]
pub struct ServerBuilder {
    broker: SharedBroker,
    name: Option<Name>,
    queues: Vec<(Name, u32)>,
    queue_limits: Vec<(Name, usize)>,
    strict: bool,
    processes: Vec<ProcessWrapper>,
    registered: bool,
    layers: Vec<ApplyLayer>,
    state: State,
    max_abandoned: Option<usize>,
    /// Whether a monitor is asked for.
    monitor: bool,
    settings: Settings,
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
            layers: Vec::new(),
            state: State::default(),
            max_abandoned: None,
            monitor: false,
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

    /// Mounts a process: a [`Process`](crate::Process), an async function or a [`ProcessWrapper`].
    pub fn process<M>(mut self, process: impl IntoProcess<M>) -> Self {
        self.processes.push(process.into_process());
        self
    }

    /// Mounts every process that `#[task(process = …)]` registers in this program, built from the
    /// [state](Self::state).
    pub fn registered(mut self) -> Self {
        self.registered = true;
        self
    }

    /// Puts a [`tower::Layer`] around every process. The first one added is the outermost, as in
    /// [`tower::ServiceBuilder`].
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<BoxProcess, Service: TaskService> + Send + Sync + 'static,
    {
        self.layers.push(Box::new(move |inner| inner.wrap(&layer)));
        self
    }

    /// Runs a hook around every process.
    pub fn hook(self, hook: impl Hook) -> Self {
        self.layer(HookLayer::new(hook))
    }

    /// Shares a value with all processes, by its type: see [`Context::state`].
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.state.insert(value);
        self
    }

    /// Names this server among all that work for the broker. By default made of host, process and a random part.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How long a task stays with this server when it is not heard of; it is heard of each third of this. A task of a
    /// server that died runs elsewhere after this long. Default 30 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// How often to look for tasks when no signal comes, as after a lost connection. Default 1 s.
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

    /// How many handlers may go on after their slot was given up, because they block their thread past their
    /// deadline. At that number, slots are not replaced any more and the server runs fewer tasks. By default as many
    /// as the concurrency.
    pub fn max_abandoned(mut self, max: usize) -> Self {
        self.max_abandoned = Some(max);
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

    /// Is told of every failed attempt.
    pub fn on_error(
        mut self,
        on_error: impl Fn(&Context, &TaskError) + Send + Sync + 'static,
    ) -> Self {
        self.settings.on_error = Some(Arc::new(on_error));
        self
    }

    /// Is told, at each interval, whether the broker answers.
    pub fn health_check(
        mut self,
        interval: Duration,
        check: impl Fn(Result<(), BrokerError>) + Send + Sync + 'static,
    ) -> Self {
        self.settings.health_check = Some((interval, Arc::new(check)));
        self
    }

    /// Checks the settings and makes the server.
    ///
    /// # Errors
    ///
    /// When a setting makes no sense, no process is mounted or two are for one event, or a registered process cannot
    /// be built from the state.
    pub fn build(mut self) -> Result<Server, ServerError> {
        self.check_settings()?;
        if self.registered {
            for registration in Registration::all() {
                let event = registration.event();
                let process = registration.build(&self.state);
                self.processes
                    .push(process.map_err(|source| ServerError::State { event, source })?);
            }
        }
        let queues = self.queue_set()?;
        let registry = self.registry()?;
        let settings = self.settings;
        let shared = Shared {
            broker: self.broker,
            worker: self.name.unwrap_or_else(worker_name),
            registry,
            state: self.state,
            queue_names: queues.names(),
            inbox: Inbox::new(queues.len()),
            slots: Slots::default(),
            outbox: Outbox::default(),
            due: Notify::new(),
            unheard: Notify::new(),
            stopping: CancellationToken::new(),
            stopped: CancellationToken::new(),
            counters: Counters::default(),
            settings,
        };
        Ok(Server {
            shared: Arc::new(shared),
            queues,
        })
    }

    /// Makes [`build`](Self::build) fail, for a monitor was asked for.
    #[cfg(feature = "config")]
    pub(crate) fn with_monitor(mut self) -> Self {
        self.monitor = true;
        self
    }

    fn check_settings(&mut self) -> Result<(), ServerError> {
        if self.monitor {
            return Err(ServerError::NoMonitor);
        }
        let settings = &mut self.settings;
        settings.max_abandoned = self.max_abandoned.unwrap_or(settings.concurrency);
        let too_short = |setting, value| Err(ServerError::TooShort { setting, value });
        if settings.concurrency == 0 {
            return Err(ServerError::ZeroConcurrency);
        }
        if settings.lease < SHORTEST_LEASE {
            return too_short("lease", settings.lease);
        }
        if settings.poll_interval < SHORTEST_INTERVAL {
            return too_short("poll_interval", settings.poll_interval);
        }
        match &settings.health_check {
            Some((interval, _)) if *interval < SHORTEST_INTERVAL => {
                too_short("health_check", *interval)
            }
            _ => Ok(()),
        }
    }

    fn queue_set(&mut self) -> Result<QueueSet, ServerError> {
        if self.queues.is_empty() {
            let mut named: Vec<_> = self
                .processes
                .iter()
                .map(|process| process.queue().clone())
                .collect();
            named.sort();
            named.dedup();
            self.queues = named.into_iter().map(|name| (name, 1)).collect();
        }
        for process in &self.processes {
            if !self.queues.iter().any(|(name, _)| name == process.queue()) {
                tracing::warn!(event = %process.event(), queue = %process.queue(),
                    "tasks of this event go to a queue that this server does not take from");
            }
        }
        QueueSet::new(
            std::mem::take(&mut self.queues),
            &self.queue_limits,
            self.strict,
        )
    }

    fn registry(&mut self) -> Result<Registry, ServerError> {
        let mut registry = Registry::default();
        for process in self.processes.drain(..) {
            // The first layer added is the outermost, so it goes on last.
            let process = process.map_service(|service| {
                self.layers
                    .iter()
                    .rev()
                    .fold(service, |inner, layer| layer(inner))
            });
            registry
                .insert(process)
                .map_err(|event| ServerError::DuplicateProcess { event })?;
        }
        if registry.is_empty() {
            Err(ServerError::NoProcess)
        } else {
            Ok(registry)
        }
    }

    /// Builds the server and starts it in the background.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build), or when the broker does not answer.
    pub async fn start(self) -> Result<ServerHandle, ServerError> {
        let server = self.build()?;
        server.shared.broker.ping().await?;
        Ok(server.start())
    }

    /// Builds the server and runs it until `shutdown` completes: see [`Server::run`] and
    /// [`shutdown_signal`](crate::shutdown_signal).
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
            .field("queues", &self.queues)
            .field("processes", &self.processes)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

fn worker_name() -> Name {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "worker".into());
    let random = TaskId::generate();
    let (_, random) = random.as_str().split_at(16);
    format!("{host}:{}:{random}", std::process::id()).into()
}
