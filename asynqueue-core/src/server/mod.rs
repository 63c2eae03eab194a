//! The server: fetches tasks, runs them, records what came of them.
//!
//! A task's way through it, each step a file:
//!
//! 1. `fetch` leases a batch, as `queues` shares it out, and `admission` lets into the `inbox` what may start;
//! 2. a slot of `execute` takes it from there and runs it; `running` knows what each slot is at;
//! 3. `outcome` says what comes next, and `settle` records outcomes in batches.
//!
//! Beside that way: `heartbeat` extends leases, `watch` gives up on handlers that don't stop, `maintenance`
//! forwards due tasks, reclaims lost ones and trims old ones, `aggregate` makes groups one task, `presence` tells the fleet of
//! this server, and `shutdown` brings all of it to an end.

mod admission;
mod aggregate;
mod assemble;
mod builder;
#[cfg(feature = "testing")]
mod drain;
mod error;
mod execute;
mod fetch;
mod handle;
mod heartbeat;
mod inbox;
mod maintenance;
mod outcome;
mod presence;
mod queues;
mod retrying;
mod running;
mod settings;
mod settle;
mod shutdown;
mod watch;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

#[cfg(feature = "config")]
pub(crate) use self::builder::{SHORTEST_INTERVAL, SHORTEST_LEASE};
use self::{
    admission::Unhandled, aggregate::Aggregator, inbox::Inbox, queues::QueueSet, running::Slots,
    settings::Settings, settle::Outbox, shutdown::within,
};
pub use self::{
    builder::ServerBuilder,
    error::ServerError,
    handle::{ServerHandle, ServerStats},
    shutdown::shutdown_signal,
};
#[cfg(feature = "scheduler")]
pub(crate) use self::{outcome::guarded, retrying::Retrying};
use crate::{
    broker::{BrokerError, SharedBroker},
    metrics::ServerMeter,
    process::State,
    registry::Registry,
    task::Name,
};

/// Runs the tasks of some queues.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use asynqueue_core::{Context, MemoryBroker, Payload, Producer, Server, TaskError};
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
/// Producer::new(broker).enqueue(WelcomeEmail { user_id: 42 }).await?.result().await?;
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
    state: State,
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
    outbox: Outbox,
    /// Woken when a task is due earlier than was known.
    due: Notify,
    /// Woken when a group is due earlier than was known.
    group_due: Notify,
    /// Woken when cancellations may have gone unheard.
    unheard: Notify,
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
        // Also when this future is dropped halfway: no slot may go on unseen.
        let _stop = StopOnDrop(Arc::clone(&shared));
        tracing::info!(worker = %shared.worker, queues = ?shared.queue_names, events = ?shared.registry.events(),
            concurrency = shared.settings.concurrency, "server started");

        // Before the watch, which opens slots too, is there to count them at the same time.
        shared.open_slots();
        let mut upkeep = JoinSet::new();
        upkeep.spawn(Arc::clone(&shared).settle_outcomes());
        upkeep.spawn(Arc::clone(&shared).extend_leases());
        upkeep.spawn(Arc::clone(&shared).watch_slots());
        upkeep.spawn(Arc::clone(&shared).report_progress());
        upkeep.spawn(Arc::clone(&shared).forward_due());
        upkeep.spawn(Arc::clone(&shared).reclaim_lost());
        upkeep.spawn(Arc::clone(&shared).trim_old());
        upkeep.spawn(Arc::clone(&shared).check_health());
        upkeep.spawn(Arc::clone(&shared).aggregate_groups());
        upkeep.spawn(Arc::clone(&shared).tell_of_itself());
        upkeep.spawn(Arc::clone(&shared).subscribe_once());

        let mut fetching = tokio::spawn(Arc::clone(&shared).fetch(queues));
        // Without one of its parts a server would look alive, and run or record nothing.
        let mut panic = None;
        tokio::select! {
            () = shutdown => {}
            () = shared.stopping.cancelled() => {}
            error = panicked(&mut upkeep) => panic = Some(error),
        }
        shared.stopping.cancel();
        shared.give_back_waiting();
        // A lease call under way is waited for, however short the shutdown timeout: what it leases must be given back.
        let fetched = tokio::time::timeout(LAST_CALLS, &mut fetching).await;
        fetching.abort();
        shared.wind_down().await;
        within(LAST_CALLS, async {
            while upkeep.join_next().await.is_some() {}
        })
        .await;
        tracing::info!(worker = %shared.worker, "server stopped");
        match (panic, fetched) {
            (Some(error), _) | (None, Ok(Err(error))) => Err(ServerError::panicked(&error)),
            (None, Ok(Ok(fetched))) => fetched.map_err(ServerError::Broker),
            // It was still leasing when its time was up.
            (None, Err(_)) => Ok(()),
        }
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

/// How long the broker may take to answer the last lease, and to record the last outcomes.
const LAST_CALLS: Duration = Duration::from_secs(10);

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

/// Whether the broker is gone for good, so that trying again makes no sense.
pub(crate) fn is_closed(error: &BrokerError) -> bool {
    matches!(error, BrokerError::Closed)
}
