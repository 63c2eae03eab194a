//! A complete program in one call: the server, and the parts that run beside it.

mod error;
mod handle;
mod parts;
mod start;

use std::{convert::Infallible, fmt, future::Future, sync::Arc};

use asynqueue_core::{
    broker::SharedBroker,
    inspector::Inspector,
    layer::{BoxProcess, Hook, TaskService},
    outbox::Outbox,
    process::Process,
    producer::Producer,
    registry::{IntoBlockingProcess, IntoProcess},
    server::{Server, ServerBuilder},
    task::{Name, Task},
};
use tower_layer::Layer;

use self::parts::Parts;
pub use self::{error::AppError, handle::AppHandle};

/// A program that runs tasks: a server and, optionally, a scheduler, metrics with health checks, and the web monitor.
///
/// ```
/// use asynqueue::{App, prelude::*};
///
/// #[derive(Serialize, Deserialize, Task)]
/// #[task(event = "email:welcome")]
/// struct Welcome;
///
/// async fn welcome(_: Payload<Welcome>) -> Result<(), TaskError> {
///     Ok(())
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), BoxError> {
/// let broker = asynqueue::connect("memory:").await?;
/// # let shutdown_signal = || std::future::ready(());
/// App::new(broker).process(welcome).run(shutdown_signal()).await?;
/// # Ok(())
/// # }
/// ```
///
/// With the feature `config`, `App::from_config` connects to the broker and sets up each part from a configuration.
///
/// # Order
///
/// The parts start in this order: metrics and health, web monitor, server, scheduler, relays of outboxes. `/readyz` fails until all have
/// started. If one cannot start, the parts already running are stopped, and the error names the failed one.
///
/// They stop in the reverse order: relays and the scheduler stop enqueueing, the server finishes its running tasks, the monitor
/// stops, and metrics and health stop last, so that a final scrape sees the end. `/readyz` fails from the start of the
/// shutdown. Finally the broker is closed, if the app connected to it.
#[must_use = "an app does nothing until it runs"]
pub struct App {
    broker: SharedBroker,
    /// Whether the app closes the broker when it ends.
    closes_broker: bool,
    server: ServerBuilder,
    parts: Parts,
}

impl App {
    /// Creates an app that runs a server on `broker`. The broker stays open when the app ends.
    pub fn new(broker: impl Into<SharedBroker>) -> Self {
        let broker = broker.into();
        Self {
            server: Server::builder(broker.clone()),
            parts: Parts::new(&broker),
            closes_broker: false,
            broker,
        }
    }

    /// Connects to the broker of a configuration, and sets up all configured parts. The broker is closed when the app
    /// ends.
    ///
    /// ```
    /// # use asynqueue::prelude::*;
    /// # #[derive(Serialize, Deserialize, Task)]
    /// # #[task(event = "email:welcome")]
    /// # struct Welcome;
    /// # async fn welcome(_: Payload<Welcome>) -> Result<(), TaskError> { Ok(()) }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), BoxError> {
    /// use asynqueue::{App, Config};
    ///
    /// let config = Config::from_toml("addr = 'memory:'\nconcurrency = 64")?; // or `Config::load(…)`
    /// # let shutdown_signal = || std::future::ready(());
    /// App::from_config(&config).await?.process(welcome).run(shutdown_signal()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the broker cannot be reached, a setting is invalid, or the configuration needs a part that this program is
    /// built without; then the error names the feature to enable.
    #[cfg(feature = "config")]
    pub async fn from_config(config: &asynqueue_core::config::Config) -> Result<Self, AppError> {
        Parts::check(config)?;
        let broker = crate::connect(&config.addr).await?;
        let mut of_server = config.clone();
        // The app runs the other parts itself.
        of_server.scheduler = Default::default();
        of_server.metrics = Default::default();
        of_server.monitoring = Default::default();
        Ok(Self {
            server: Server::builder(broker.clone()).config(&of_server),
            parts: Parts::of(&broker, config)?,
            closes_broker: true,
            broker,
        })
    }

    /// Registers a handler: see [`ServerBuilder::process`].
    pub fn process<M>(self, process: impl IntoProcess<M>) -> Self {
        self.server(|server| server.process(process))
    }

    /// Registers a handler for one of its several types of tasks: see [`ServerBuilder::process_for`].
    pub fn process_for<T: Task>(self, process: impl Process<T>) -> Self {
        self.server(|server| server.process_for::<T>(process))
    }

    /// Registers a function that computes for long or blocks its thread: see [`ServerBuilder::process_blocking`].
    pub fn process_blocking<M>(self, function: impl IntoBlockingProcess<M>) -> Self {
        self.server(|server| server.process_blocking(function))
    }

    /// Registers all handlers that `#[task(process = …)]` declares: see [`ServerBuilder::registered`].
    pub fn registered(self) -> Self {
        self.server(ServerBuilder::registered)
    }

    /// Subscribes a handler to an event: see [`ServerBuilder::subscribe`].
    pub fn subscribe<M>(self, subscriber: impl Into<Name>, process: impl IntoProcess<M>) -> Self {
        self.server(|server| server.subscribe(subscriber, process))
    }

    /// Combines the members of a group into one task: see [`ServerBuilder::aggregate`].
    pub fn aggregate<T: Task, U: Task>(
        self,
        combine: impl Fn(Vec<T>) -> U + Send + Sync + 'static,
    ) -> Self {
        self.server(|server| server.aggregate(combine))
    }

    /// Shares a value with all handlers: see [`ServerBuilder::state`].
    pub fn state<T: Send + Sync + 'static>(self, value: T) -> Self {
        self.server(|server| server.state(value))
    }

    /// Wraps every handler in a layer: see [`ServerBuilder::layer`].
    pub fn layer<L>(self, layer: L) -> Self
    where
        L: Layer<BoxProcess, Service: TaskService> + Send + Sync + 'static,
    {
        self.server(|server| server.layer(layer))
    }

    /// Wraps every handler in a hook: see [`ServerBuilder::hook`].
    pub fn hook(self, hook: impl Hook) -> Self {
        self.server(|server| server.hook(hook))
    }

    /// Sets the version of the program, such as `env!("CARGO_PKG_VERSION")`: see [`ServerBuilder::version`].
    pub fn version(self, version: impl Into<String>) -> Self {
        self.server(|server| server.version(version))
    }

    /// Changes any other setting of the server, beyond the configuration and the methods here.
    ///
    /// ```
    /// # use asynqueue::{App, MemoryBroker};
    /// let app = App::new(MemoryBroker::new())
    ///     .server(|server| server.on_error(|ctx, error| eprintln!("{} failed: {error}", ctx.task_ref())));
    /// # drop(app);
    /// ```
    pub fn server(mut self, change: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        self.server = change(self.server);
        self
    }

    /// Relays the tasks of an [outbox](asynqueue_core::outbox) to the broker of the app. Run it in any number of
    /// processes: one relays, the others stand by. Several outboxes have a relay each.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynqueue::{App, sqlite::SqliteOutbox};
    ///
    /// let broker = asynqueue::connect("redis://127.0.0.1").await?;
    /// let outbox = SqliteOutbox::open("shop.db").await?;
    /// App::new(broker).outbox(outbox).run(asynqueue::shutdown_signal()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// The same with PostgreSQL:
    ///
    /// ```no_run
    /// # #[cfg(feature = "postgres")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynqueue::{App, postgres::{PostgresOptions, PostgresOutbox}};
    ///
    /// let broker = asynqueue::connect("redis://127.0.0.1").await?;
    /// let outbox = PostgresOutbox::connect(PostgresOptions::new("postgres://shop@db/shop")?).await?;
    /// App::new(broker).outbox(outbox).run(asynqueue::shutdown_signal()).await?;
    /// # Ok(()) }
    /// ```
    pub fn outbox(mut self, outbox: impl Into<Arc<dyn Outbox>>) -> Self {
        self.parts.outboxes.push(outbox.into());
        self
    }

    /// Enqueues a task on a schedule: see
    /// [`SchedulerBuilder::entry`](asynqueue_core::scheduler::SchedulerBuilder::entry).
    #[cfg(feature = "scheduler")]
    pub fn schedule(self, entry: asynqueue_core::scheduler::Entry) -> Self {
        self.scheduler(|scheduler| scheduler.entry(entry))
    }

    /// Runs a scheduler, and changes its settings beyond its [entries](Self::schedule).
    #[cfg(feature = "scheduler")]
    pub fn scheduler(
        mut self,
        change: impl FnOnce(
            asynqueue_core::scheduler::SchedulerBuilder,
        ) -> asynqueue_core::scheduler::SchedulerBuilder,
    ) -> Self {
        self.parts.scheduler = self.parts.scheduler.change(change);
        self
    }

    /// Serves metrics and health at an address, such as `127.0.0.1:9464`: see
    /// [`Exporter::router`](asynqueue_monitor::metrics::Exporter::router).
    #[cfg(feature = "metrics-exporter")]
    pub fn metrics_at(mut self, address: impl Into<String>) -> Self {
        self.parts.metrics.address = Some(address.into());
        self
    }

    /// Serves the web monitor at an address, such as `127.0.0.1:8080`.
    #[cfg(feature = "monitor")]
    pub fn monitor_at(mut self, address: impl Into<String>) -> Self {
        self.parts.monitor.address = Some(address.into());
        self
    }

    /// Changes the web monitor, if it is served: for example its users, its redacted fields or its path.
    ///
    /// ```
    /// # use asynqueue::{App, MemoryBroker};
    /// let app = App::new(MemoryBroker::new())
    ///     .monitor_at("127.0.0.1:8080")
    ///     .monitor(|monitor| monitor.read_only().redact(["password"]));
    /// # drop(app);
    /// ```
    #[cfg(feature = "monitor")]
    pub fn monitor(
        mut self,
        change: impl FnOnce(asynqueue_monitor::Monitor) -> asynqueue_monitor::Monitor,
    ) -> Self {
        self.parts.monitor.monitor = change(self.parts.monitor.monitor);
        self
    }

    /// The broker of the app.
    pub fn broker(&self) -> &SharedBroker {
        &self.broker
    }

    /// Returns a producer for the app's broker.
    pub fn producer(&self) -> Producer {
        Producer::new(self.broker.clone())
    }

    /// Returns an inspector of the app's broker.
    pub fn inspector(&self) -> Inspector {
        Inspector::new(self.broker.clone())
    }

    /// Starts all parts in the background.
    ///
    /// # Errors
    ///
    /// If a part cannot start. The parts already running are stopped.
    pub async fn start(self) -> Result<AppHandle, AppError> {
        let never = std::future::pending::<Infallible>();
        match start::start_unless(self, never).await? {
            Ok(app) => Ok(app),
            Err(never) => match never {},
        }
    }

    /// Starts all parts and runs them until `shutdown` completes; see
    /// [`shutdown_signal`](asynqueue_core::server::shutdown_signal).
    ///
    /// If `shutdown` completes during the start, no further part is started and the running ones are stopped. If this
    /// future is dropped, all parts stop in the background, in no particular order.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and if the server, the scheduler or a relay stops without a request. The other parts are
    /// stopped then.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), AppError> {
        tokio::pin!(shutdown);
        let mut app = match start::start_unless(self, &mut shutdown).await? {
            Ok(app) => app,
            Err(()) => return Ok(()),
        };
        let ended = tokio::select! {
            () = &mut shutdown => Ok(()),
            ended = app.ended() => ended,
        };
        ended.and(app.shutdown().await)
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("server", &self.server)
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}
