//! The scheduler: enqueues tasks repeatedly, by the clock.
//!
//! Entries and the results of their ticks are stored in the broker. Any number of processes may run a scheduler on the
//! same broker: the first one to fire a tick enqueues its task. A scheduler that dies
//! halfway leaves the tick to another.

mod change;
mod cron;
mod entry;
mod failing;
mod fault;
mod fields;
mod file;
mod fire;
mod plan;
mod restore;
mod rule;
mod timetable;
mod turn;
mod when;
mod zone;

use std::{collections::HashSet, fmt, future::Future, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub use self::{
    entry::{Entry, ScheduleError},
    fault::InvalidRule,
    rule::Rule,
    timetable::Timetable,
};
use self::{
    failing::Failing,
    file::{CHECK_FILES, ScheduleFile},
    fire::Firing,
    restore::Declared,
    turn::{Fired, Watch},
};
use crate::{
    ambient,
    broker::{BrokerError, Conflict, ScheduleEntry, SharedBroker},
    producer::Producer,
    server::{Retrying, is_closed},
    task::{Envelope, Name, Timestamp},
};

/// The source of entries declared in code.
const CODE: &str = "code";

/// How long a step in progress may take at shutdown, for example if the broker does not respond.
const LAST_STEP: Duration = Duration::from_secs(2);

/// Fires the entries of a broker when they are due.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use asynqueue_core::{memory::MemoryBroker, scheduler::{Entry, Scheduler}};
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "clean-up", crate = asynqueue_core)]
/// # struct CleanUp { older_than_days: u32 }
///
/// let scheduler = Scheduler::builder(MemoryBroker::new())
///     .entry(Entry::new("nightly", "0 3 * * *", CleanUp { older_than_days: 90 })?)
///     .entry(Entry::new("pulse", "@every 30s", CleanUp { older_than_days: 1 })?)
///     .start().await?;
/// scheduler.shutdown().await;
/// # Ok(()) }
/// ```
pub struct Scheduler {
    firing: Arc<Firing>,
    files: Vec<ScheduleFile>,
    /// Entries that are being fired.
    under_way: JoinSet<Fired>,
    /// The names of these entries.
    busy: HashSet<Name>,
    failing: Failing,
    watch: Watch,
    declared: Declared,
}

type Before = dyn Fn(&ScheduleEntry, Timestamp, &mut Envelope) -> Result<(), String> + Send + Sync;
type After = dyn Fn(&ScheduleEntry, Timestamp, &Result<bool, Conflict>) + Send + Sync;

/// Configures a [`Scheduler`].
#[must_use = "a scheduler does nothing until it is started"]
pub struct SchedulerBuilder {
    broker: SharedBroker,
    entries: Vec<Entry>,
    files: Vec<PathBuf>,
    owner: Option<String>,
    before: Vec<Arc<Before>>,
    after: Vec<Arc<After>>,
}

impl Scheduler {
    /// Configures a scheduler for `broker`. Without entries in code it fires the entries stored in the broker.
    pub fn builder(broker: impl Into<SharedBroker>) -> SchedulerBuilder {
        SchedulerBuilder {
            broker: broker.into(),
            entries: Vec::new(),
            files: Vec::new(),
            owner: None,
            before: Vec::new(),
            after: Vec::new(),
        }
    }

    fn broker(&self) -> &SharedBroker {
        self.firing.producer.broker()
    }

    /// Runs until `shutdown` completes or the broker is closed. Waits while the broker is unavailable.
    pub async fn run(mut self, shutdown: impl Future<Output = ()> + Send) {
        tokio::pin!(shutdown);
        let mut retrying = Retrying::new("fire schedules");
        let mut wait = Duration::ZERO;
        let mut check_files = Instant::now() + CHECK_FILES;
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(wait) => {}
            }
            let turned = {
                let step = self.step(&mut check_files);
                tokio::pin!(step);
                tokio::select! {
                    turned = &mut step => turned,
                    () = &mut shutdown => {
                        let _ = tokio::time::timeout(LAST_STEP, step).await;
                        return;
                    }
                }
            };
            wait = match turned {
                Ok(wait) => {
                    retrying.worked();
                    self.declared.wait(wait)
                }
                Err(error) if is_closed(&error) => return,
                Err(error) => retrying.failed(&error),
            };
        }
    }

    /// Checks files, restores missing entries, and fires due ones. It may be cut off at any point: a tick that was
    /// fired but not recorded is not fired again by the next scheduler.
    async fn step(&mut self, check_files: &mut Instant) -> Result<Duration, BrokerError> {
        if !self.files.is_empty() && Instant::now() >= *check_files {
            self.read_files_again().await;
            *check_files = Instant::now() + CHECK_FILES;
        }
        self.restore().await;
        self.turn().await
    }

    /// Logs problems in a file; its entries do not change then.
    async fn read_files_again(&mut self) {
        let mut files = std::mem::take(&mut self.files);
        for file in &mut files {
            if let Err(error) = self.read_file(file).await {
                tracing::error!(%error, "the schedule file is invalid; the previous entries stay in effect");
            }
        }
        self.files = files;
    }

    async fn read_file(&mut self, file: &mut ScheduleFile) -> Result<(), ScheduleError> {
        let Some(entries) = file.read_if_changed()? else {
            return Ok(());
        };
        let source = file.source();
        let put = self.put(entries, &source, true).await;
        if matches!(put, Err(ScheduleError::Broker(_))) {
            // The problem was not in the file, so read it again.
            file.forget();
        }
        put
    }
}

impl SchedulerBuilder {
    /// Adds an entry. It replaces an entry of the same name in the broker, but keeps whether that one is paused and,
    /// unless the rule changes, its next tick.
    pub fn entry(mut self, entry: Entry) -> Self {
        self.entries.push(entry);
        self
    }

    /// Adds the entries of a TOML file. The file is reloaded when it changes: entries that it no longer contains are
    /// removed. An invalid change is logged and has no effect.
    ///
    /// ```toml
    /// [[schedule]]
    /// name = "nightly"
    /// rule = "0 3 * * *"
    /// zone = "Europe/Berlin"      # default UTC
    /// event = "clean-up"
    /// payload = { older_than_days = 90 }
    /// # Optional, with their defaults:
    /// queue = "default"
    /// missed = "once"             # or "skip", or how many of the last ticks to make up
    /// jitter = "0s"
    /// max_retry = 25
    /// timeout = "30m"
    /// priority = 0
    /// retention = "0s"
    /// ```
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// Sets the owner of the entries in code: when the scheduler starts, entries of the same owner that are no longer
    /// in code are removed. Without an owner they stay until someone removes them, because another program may have
    /// added them.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// Adds a hook that is called before the task of a tick is enqueued. It may change the task's headers, payload and
    /// options. If it returns an error, the tick is skipped for this reason.
    pub fn before(
        mut self,
        hook: impl Fn(&ScheduleEntry, Timestamp, &mut Envelope) -> Result<(), String>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.before.push(Arc::new(hook));
        self
    }

    /// Adds a hook that is called with the result of each tick: `Ok(false)` if another scheduler fired it first.
    pub fn after(
        mut self,
        hook: impl Fn(&ScheduleEntry, Timestamp, &Result<bool, Conflict>) + Send + Sync + 'static,
    ) -> Self {
        self.after.push(Arc::new(hook));
        self
    }

    /// Adds the entries to the broker, and creates the scheduler.
    ///
    /// # Errors
    ///
    /// When an entry or a file is invalid, or the broker cannot be reached.
    pub async fn build(self) -> Result<Scheduler, ScheduleError> {
        let mut scheduler = Scheduler {
            firing: Arc::new(Firing {
                producer: Producer::new(self.broker),
                before: self.before,
                after: self.after,
            }),
            files: Vec::new(),
            under_way: JoinSet::new(),
            busy: HashSet::new(),
            failing: Failing::default(),
            watch: Watch::new(),
            declared: Declared::default(),
        };
        let source = match &self.owner {
            Some(owner) => format!("{CODE}:{owner}"),
            None => CODE.to_owned(),
        };
        scheduler
            .put(self.entries, &source, self.owner.is_some())
            .await?;
        for path in self.files {
            let mut file = ScheduleFile::new(path);
            scheduler.read_file(&mut file).await?;
            scheduler.files.push(file);
        }
        Ok(scheduler)
    }

    /// Starts the scheduler in the background.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub async fn start(self) -> Result<SchedulerHandle, ScheduleError> {
        let scheduler = self.build().await?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let running = tokio::spawn(ambient::here(scheduler.run(stopped)));
        let running = Some(running);
        Ok(SchedulerHandle { stop, running })
    }

    /// Runs the scheduler until `shutdown` completes.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), ScheduleError> {
        self.build().await?.run(shutdown).await;
        Ok(())
    }
}

/// A running scheduler. It stops when this is dropped.
#[derive(Debug)]
#[must_use = "the scheduler stops when this is dropped"]
pub struct SchedulerHandle {
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
}

impl SchedulerHandle {
    /// Stops the scheduler after its current step, or after two seconds. The next scheduler makes up for steps that
    /// were cut off.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        // The panic was reported where it happened.
        let _ = self.ended().await;
    }

    /// Waits until the scheduler stops by itself, which it does when the broker is closed or panics.
    ///
    /// # Errors
    ///
    /// When it panicked.
    pub async fn ended(&mut self) -> Result<(), ScheduleError> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let ended = running.await.map_err(|error| ScheduleError::Panicked {
            message: error.to_string(),
        });
        // Only after the wait: a caller that stops waiting here may wait again, or shut down.
        self.running = None;
        ended
    }
}

impl Drop for SchedulerHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SchedulerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerBuilder")
            .field("entries", &self.entries)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}
