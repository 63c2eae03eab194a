//! The server: fetches tasks, runs them, records their outcomes.
//!
//! A task's way through it, each step a file:
//!
//! 1. `fetch` leases a batch, as `queues` shares it out, and `admission` lets into the `inbox` what may start;
//! 2. a slot of `execute` takes it from there and runs it; `running` knows what each slot is at;
//! 3. `outcome` says what comes next, and `settle` records outcomes in batches;
//! 4. `archived` calls hooks for tasks that are archived, and `failures` writes the log lines.
//!
//! What a server asks of several queues fails and recovers for each by itself: `calls` leases, `outbox` keeps the outcomes, and
//! `rounds` does what each queue needs now and then.
//!
//! Beside that way: `hearing` listens for signals, `heartbeat` extends leases, `reclaim` takes tasks back from lost workers, `watch` gives up on handlers
//! that don't stop, `maintenance` forwards due tasks and trims old ones, `aggregate` makes groups one task, `presence` reports
//! this server to the fleet, and `shutdown` brings all of it to an end.
//! All of that but the slots and the application's callbacks runs on the thread of `keeper`, where no handler can block it.

mod admission;
mod aggregate;
mod apart;
mod archive;
mod archived;
mod assemble;
mod builder;
mod calls;
#[cfg(feature = "testing")]
mod drain;
mod error;
mod execute;
mod failures;
mod fetch;
mod handle;
mod hearing;
mod heartbeat;
mod inbox;
mod keeper;
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
mod subscribing;
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

#[cfg(feature = "config")]
pub(crate) use self::builder::{Beyond, SHORTEST_INTERVAL, SHORTEST_LEASE};
use self::{
    admission::Unhandled, aggregate::Aggregator, archived::HookCalls, heartbeat::Asked,
    inbox::Inbox, keeper::Keeper, outbox::Outbox, queues::QueueSet, quiet::Quiet, running::Slots,
    settings::Settings, shutdown::LAST_HOOKS,
};
pub use self::{
    builder::ServerBuilder,
    error::ServerError,
    handle::{ServerHandle, ServerStats},
    signals::shutdown_signal,
};
#[cfg(feature = "scheduler")]
pub(crate) use self::{outcome::guarded, retrying::Retrying};
#[cfg(feature = "testing")]
pub(crate) use self::{
    outcome::{after_error, counts},
    reclaim::lease_expired,
};
use crate::{
    ambient,
    broker::{BrokerError, SharedBroker},
    metrics::ServerMeter,
    process::Provided,
    registry::Registry,
    task::Name,
};

/// Runs the tasks of some queues.
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

/// What the parts of a running server share.
#[derive(Debug)]
struct Shared {
    broker: SharedBroker,
    worker: Name,
    settings: Settings,
    registry: Registry,
    provided: Arc<Provided>,
    queue_names: Vec<Name>,
    weights: Vec<(Name, u32)>,
    strict: bool,
    aggregators: Vec<Aggregator>,
    /// Event and name of those who subscribe.
    subscribers: Vec<(Name, Name)>,
    /// Whether the broker knows them.
    subscribed: AtomicBool,
    inbox: Inbox,
    unhandled: Unhandled,
    slots: Slots,
    /// How many threads the blocking code of attempts may still have beside the first of each.
    blocking: Arc<Semaphore>,
    outbox: Outbox,
    hook_calls: HookCalls,
    /// Woken when a task is due earlier than was known.
    due: Notify,
    /// Woken when a group is due earlier than was known.
    group_due: Notify,
    /// Woken when cancellations may have gone unheard.
    unheard: Notify,
    /// Leases to ask about at once.
    asked: Asked,
    /// Leasing is suspended until it is resumed.
    quiet: Quiet,
    /// Leasing stops.
    stopping: CancellationToken,
    /// Everything stops.
    stopped: CancellationToken,
    counters: Counters,
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
    /// Begins a server on `broker`.
    pub fn builder(broker: impl Into<SharedBroker>) -> ServerBuilder {
        ServerBuilder::new(broker.into())
    }

    /// Starts the server in the background.
    pub fn start(self) -> ServerHandle {
        ServerHandle::start(self)
    }

    /// Runs until `shutdown` completes, then shuts down gracefully: leases nothing more, gives back what has not
    /// started, waits for what runs up to the [shutdown timeout](ServerBuilder::shutdown_timeout), then cancels it and
    /// gives it back without counting an attempt.
    ///
    /// Dropping the future stops at once instead; what ran is run again when its lease has ended.
    ///
    /// # Errors
    ///
    /// When the broker is closed meanwhile, or panics. An unreachable broker is waited for.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), ServerError> {
        let Self { shared, queues } = self;
        // Also when this future is dropped halfway: no slot may run on unseen.
        let _stop = StopOnDrop(Arc::clone(&shared));
        tracing::info!(worker = %shared.worker, queues = ?shared.queue_names, events = ?shared.registry.events(),
            concurrency = shared.settings.concurrency, "server started");

        // Handlers and the application's own code run where the application runs, and all else where they cannot block it.
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
            // Only now: until here tasks can be archived.
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

/// Waits for one that panics; the others may end.
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
        // A slot that is being opened just now finds nothing to run.
        self.0.inbox.close();
        self.0.slots.abort_all();
    }
}

/// Whether the broker is gone for good, so that trying again is useless.
pub(crate) fn is_closed(error: &BrokerError) -> bool {
    matches!(error, BrokerError::Closed)
}
