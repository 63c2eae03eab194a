//! The server: leases tasks, runs their handlers and records the outcomes.
//!
//! The path of a task, one file per step:
//!
//! 1. `fetch` leases a batch, shared among the queues by `queues`; `admission` puts what may start into the `inbox`;
//! 2. a slot of `execute` takes a task from the inbox and runs it; `running` holds the state of each slot;
//! 3. `outcome` decides what happens next, and `settle` records outcomes in batches;
//! 4. `archived` calls hooks for archived tasks, and `failures` writes the log lines.
//!
//! Calls that cover several queues fail and recover per queue: `calls` leases, `outbox` buffers the outcomes, and
//! `rounds` does the periodic work of each queue.
//!
//! Beside that path: `listener` listens for signals, `heartbeat` extends leases, `reclaim` takes tasks back from lost
//! workers, `watch` abandons handlers that do not stop, `maintenance` forwards due tasks and trims old ones,
//! `aggregate` combines groups into one task, `presence` reports this server to the fleet, and `shutdown` stops
//! everything in order. All of it runs on the thread of `keeper`, which no handler can block, except the slots and the
//! application's callbacks.

mod admission;
mod aggregate;
mod apart;
mod archive;
mod archived;
mod assemble;
mod builder;
mod calls;
mod deploy;
#[cfg(feature = "testing")]
mod drain;
mod error;
mod execute;
mod failures;
mod fetch;
mod handle;
mod heartbeat;
mod inbox;
mod keeper;
mod listener;
mod maintenance;
mod outbox;
mod outcome;
mod presence;
mod queues;
mod quiet;
mod reclaim;
mod retrying;
mod rounds;
mod running;
mod settings;
mod settle;
mod shutdown;
mod signals;
mod statistics;
mod subscribing;
mod usage;
mod watch;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore},
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

#[cfg(feature = "scheduler")]
pub(crate) use self::outcome::guarded;
use self::{
    admission::Unhandled, aggregate::Aggregator, archived::HookCalls, heartbeat::LeaseChecks,
    inbox::Inbox, keeper::Keeper, outbox::Outbox, queues::QueueSet, quiet::Quiet, running::Slots,
    settings::Settings, shutdown::LAST_HOOKS, statistics::Statistics,
};
#[cfg(feature = "config")]
pub(crate) use self::{
    assemble::MOST_AT_ONCE,
    builder::{Beyond, SHORTEST_INTERVAL, SHORTEST_LEASE},
};
pub use self::{
    builder::ServerBuilder,
    error::ServerError,
    handle::{ServerHandle, ServerStats},
    signals::shutdown_signal,
};
#[cfg(feature = "testing")]
pub(crate) use self::{
    outcome::{after_error, counts},
    reclaim::lease_expired,
};
pub(crate) use self::{presence::host, retrying::Retrying};
use crate::{
    ambient,
    broker::{BrokerError, SharedBroker},
    metrics::ServerMeter,
    process::Provided,
    registry::Registry,
    task::Name,
};

/// Leases tasks from queues and runs their handlers.
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
/// # #[task(event = "email:welcome", crate = asynqueue_core)]
/// # struct WelcomeEmail { user_id: u64 }
///
/// async fn send_welcome(task: Payload<WelcomeEmail>, _ctx: Context) -> Result<(), TaskError> {
///     println!("welcome, user {}", task.user_id);
///     Ok(())
/// }
///
/// let broker = MemoryBroker::new();
/// let server = Server::builder(broker.clone()).concurrency(8).process(send_welcome).start().await?;
/// Producer::new(broker).enqueue(WelcomeEmail { user_id: 42 }).result().await?;
/// server.shutdown().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    queues: QueueSet,
}

/// State shared by the parts of a running server.
#[derive(Debug)]
struct Shared {
    broker: SharedBroker,
    worker: Name,
    settings: Settings,
    registry: Registry,
    provided: Arc<Provided>,
    queue_names: Vec<Name>,
    weights: Vec<(Name, u32)>,
    /// The limit of each queue, in their order.
    queue_limits: Vec<Option<usize>>,
    /// The version of the program.
    version: Option<String>,
    strict: bool,
    aggregators: Vec<Aggregator>,
    /// Event and name of each subscriber.
    subscribers: Vec<(Name, Name)>,
    /// Whether the broker has accepted the subscribers.
    subscribed: AtomicBool,
    inbox: Inbox,
    unhandled: Unhandled,
    slots: Slots,
    /// Threads available to blocking code, beyond the first one of each attempt.
    blocking: Arc<Semaphore>,
    outbox: Outbox,
    hook_calls: HookCalls,
    /// Notified when a task becomes due earlier than expected.
    due: Notify,
    /// Notified when a group becomes due earlier than expected.
    group_due: Notify,
    /// Notified when signals of cancellations may have been lost.
    missed_signals: Notify,
    /// Leases to check immediately.
    lease_checks: LeaseChecks,
    /// Leasing is suspended until it is resumed.
    quiet: Quiet,
    /// Cancelled when leasing stops.
    stopping: CancellationToken,
    /// Cancelled when everything stops.
    stopped: CancellationToken,
    counters: Counters,
    statistics: Statistics,
    meter: ServerMeter,
}

#[derive(Debug, Default)]
struct Counters {
    finished: AtomicU64,
    stale: AtomicU64,
    reclaimed: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }
}

impl Server {
    /// Returns a builder for a server on `broker`.
    pub fn builder(broker: impl Into<SharedBroker>) -> ServerBuilder {
        ServerBuilder::new(broker.into())
    }

    /// Starts the server in the background.
    pub fn start(self) -> ServerHandle {
        ServerHandle::start(self)
    }

    /// Runs until `shutdown` completes, then shuts down gracefully: stops leasing, releases the tasks that have not
    /// started, waits for running tasks up to the [shutdown timeout](ServerBuilder::shutdown_timeout), then cancels and
    /// releases them without counting an attempt.
    ///
    /// Dropping the future stops the server immediately. Interrupted tasks run again after their leases expire.
    ///
    /// # Errors
    ///
    /// If the broker is closed while the server runs, or an internal task panics. An unreachable broker is not an
    /// error: the server waits for it.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), ServerError> {
        let Self { shared, queues } = self;
        // Also when this future is dropped early: no slot may keep running unobserved.
        let _stop = StopOnDrop(Arc::clone(&shared));
        tracing::info!(worker = %shared.worker, queues = ?shared.queue_names, events = ?shared.registry.events(),
            concurrency = shared.settings.concurrency, "server started");

        // Handlers and callbacks run on the application's runtime; everything else runs where they cannot block it.
        shared.slots.run_on(Handle::current());
        shared.open_slots();
        let mut callbacks = JoinSet::new();
        callbacks.spawn(ambient::here(Arc::clone(&shared).check_health()));
        callbacks.spawn(ambient::here(Arc::clone(&shared).aggregate_groups()));
        let mut hooks = JoinSet::new();
        hooks.spawn(ambient::here(Arc::clone(&shared).call_hooks()));
        let mut keeper = Keeper::start(Arc::clone(&shared), queues).map_err(ServerError::Thread)?;
        let mut ended = None;
        let mut panic = None;
        tokio::select! {
            () = shutdown => {}
            early = keeper.ended() => ended = Some(early),
            error = panicked(&mut callbacks) => panic = Some(ServerError::panicked(&error)),
        }
        shared.stopping.cancel();
        let ended = match ended {
            Some(ended) => ended,
            None => keeper.ended().await,
        };
        let last_callbacks = async {
            while callbacks.join_next().await.is_some() {}
            // Not earlier: tasks can be archived up to this point.
            shared.close_hooks();
            let _ = hooks.join_next().await;
        };
        tokio::select! {
            () = last_callbacks => {}
            () = shared.patience(LAST_HOOKS) => shared.note_uncalled_hooks(),
        }
        tracing::info!(worker = %shared.worker, "server stopped");
        panic.map_or(ended, Err)
    }
}

/// Waits until one of them panics; the others may end.
async fn panicked(parts: &mut JoinSet<()>) -> JoinError {
    while let Some(ended) = parts.join_next().await {
        if let Err(error) = ended {
            return error;
        }
    }
    std::future::pending().await
}

struct StopOnDrop(Arc<Shared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stopping.cancel();
        self.0.stopped.cancel();
        // A slot that is being opened concurrently finds nothing to run.
        self.0.inbox.close();
        self.0.slots.abort_all();
    }
}

/// Whether the broker is closed permanently, so that retrying is useless.
pub(crate) fn is_closed(error: &BrokerError) -> bool {
    matches!(error, BrokerError::Closed)
}
