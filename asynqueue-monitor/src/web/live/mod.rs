//! Live updates: server-sent events, one per second.
//!
//! The broker is polled once per second for any number of viewers, and not at all without viewers. While there are
//! viewers, pages are rendered from the last snapshot, and additional data is read once for all viewers of the same
//! page.

mod failures;
mod memo;
mod snapshot;
mod stream;

use std::{
    collections::HashMap,
    hash::Hash,
    sync::Arc,
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{BrokerError, GroupInfo, HourStats, ServerInfo, TaskInfo},
    inspector::{AuditEntry, AuditPage, AuditQuery, Inspector, TaskWait},
    task::{Name, TaskRef},
};
use parking_lot::Mutex;
use tokio::sync::watch;

use self::{
    failures::RecentFailures,
    memo::Memo,
    snapshot::{More, Past},
};
pub(super) use self::{
    snapshot::{Fleet, Snapshot},
    stream::stream,
};
use super::reading::{
    failures as failures_of_day,
    history::{A_DAY, first_hour},
    queue::{self, Contents},
    schedules::{self, Schedules},
};

const INTERVAL: Duration = Duration::from_secs(1);

/// The pause between polls, as a multiple of the response time. It bounds the load on the broker with thousands of
/// queues.
const REST: u32 = 9;

/// The maximum number of individual tasks that a poll reads.
const WATCHED: usize = 100;

/// How long slowly changing data is cached.
const SLOW_INTERVAL: Duration = Duration::from_secs(10);

/// The shared state of all viewers.
pub(super) struct Live {
    inspector: Inspector,
    /// The last snapshot. Set only while there are viewers.
    snapshots: Arc<Mutex<Option<Snapshots>>>,
    /// The tasks with open pages, and the number of pages of each.
    watched: Arc<Mutex<HashMap<TaskRef, usize>>>,
    /// The time of the last change by this monitor. Older snapshots are not used for pages.
    changed: Arc<Mutex<Option<Instant>>>,
    /// Its reference count is the number of open schedule pages, plus one.
    schedule_viewers: Arc<()>,
    failures: Arc<RecentFailures>,
    causes: Memo<(), failures_of_day::Recent>,
    slow: Memo<(), Slow>,
    pub(super) contents: Memo<(Name, queue::Part), Contents>,
    pub(super) tasks: Memo<TaskRef, Option<TaskInfo>>,
    pub(super) waits: Memo<TaskRef, Option<TaskWait>>,
    pub(super) schedules: Memo<schedules::Part, Schedules>,
    pub(super) groups: Memo<(), Vec<GroupInfo>>,
    pub(super) audits: Memo<AuditQuery, AuditPage>,
    pub(super) changes: Memo<TaskRef, Vec<AuditEntry>>,
}

type Snapshots = watch::Receiver<Poll>;

/// The outcome of the polls so far.
#[derive(Clone, Default)]
struct Poll {
    /// The last snapshot.
    snapshot: Option<Arc<Snapshot>>,
    /// Why the last poll failed.
    error: Option<Arc<str>>,
}

/// Slowly changing data.
#[derive(Debug, Default)]
pub(super) struct Slow {
    /// The attempts that ended in each hour of the last 24 hours, in all queues.
    pub(super) hours: Vec<HourStats>,
}

impl Live {
    pub(super) fn new(inspector: Inspector) -> Self {
        Self {
            inspector,
            snapshots: Arc::default(),
            watched: Arc::default(),
            changed: Arc::default(),
            schedule_viewers: Arc::default(),
            failures: Arc::default(),
            causes: Memo::default(),
            slow: Memo::default(),
            contents: Memo::default(),
            tasks: Memo::default(),
            waits: Memo::default(),
            schedules: Memo::default(),
            groups: Memo::default(),
            audits: Memo::default(),
            changes: Memo::default(),
        }
    }

    /// Queues and servers: the last snapshot if it is current, otherwise a new one.
    pub(super) async fn now(&self) -> Result<Arc<Snapshot>, BrokerError> {
        match self.last() {
            Some(snapshot) => Ok(snapshot),
            None => {
                let (mut past, more) = (Past::default(), More::default());
                Snapshot::read(&self.inspector, &self.failures, &mut past, more)
                    .await
                    .map(Arc::new)
            }
        }
    }

    /// The last snapshot, if there are viewers and this monitor has changed nothing since.
    fn last(&self) -> Option<Arc<Snapshot>> {
        let last = {
            let snapshots = self.snapshots.lock();
            snapshots
                .as_ref()
                .and_then(|last| last.borrow().snapshot.clone())
        };
        let changed = *self.changed.lock();
        last.filter(|snapshot| {
            let max_age = (2 * INTERVAL).max((REST + 2) * snapshot.took);
            snapshot.at.elapsed() < max_age && changed.is_none_or(|changed| changed < snapshot.at)
        })
    }

    /// The servers in the last snapshot if it is current, otherwise as the broker lists them now.
    pub(super) async fn servers(&self) -> Result<Vec<ServerInfo>, BrokerError> {
        match self.last() {
            Some(snapshot) => Ok(snapshot.servers.clone()),
            None => self.inspector.servers().await,
        }
    }

    /// Reads additional data for a page. While there are viewers, equal requests share one read per snapshot.
    pub(super) async fn read<K: Eq + Hash, V>(
        &self,
        memo: &Memo<K, V>,
        key: K,
        read: impl Future<Output = Result<V, BrokerError>>,
    ) -> Result<Arc<V>, BrokerError> {
        match self.last() {
            Some(snapshot) => memo.get(key, snapshot.at, read).await,
            None => read.await.map(Arc::new),
        }
    }

    /// Records a change by this monitor, so that the next page shows it.
    pub(super) fn record_change(&self) {
        *self.changed.lock() = Some(Instant::now());
    }

    /// Like [`record_change`](Self::record_change), as a callback.
    pub(super) fn on_change(&self) -> impl FnOnce() + Send + 'static {
        let changed = Arc::clone(&self.changed);
        move || *changed.lock() = Some(Instant::now())
    }

    /// The causes of the failures of the last day, at most [`SLOW_INTERVAL`] old.
    pub(super) async fn failures(&self) -> Result<Arc<failures_of_day::Recent>, BrokerError> {
        let now = Instant::now();
        let not_before = now.checked_sub(SLOW_INTERVAL).unwrap_or(now);
        let read = failures_of_day::Recent::read(&self.inspector);
        self.causes.get((), not_before, read).await
    }

    /// Slowly changing data, at most [`SLOW_INTERVAL`] old.
    pub(super) async fn slow(&self, snapshot: &Snapshot) -> Result<Arc<Slow>, BrokerError> {
        let now = Instant::now();
        let not_before = now.checked_sub(SLOW_INTERVAL).unwrap_or(now);
        self.slow
            .get((), not_before, self.read_slow(snapshot))
            .await
    }

    async fn read_slow(&self, snapshot: &Snapshot) -> Result<Slow, BrokerError> {
        let names: Vec<_> = snapshot
            .queues
            .iter()
            .map(|queue| queue.name.clone())
            .collect();
        let since = first_hour(self.inspector.now(), A_DAY);
        let history = self.inspector.history_since(&names, since).await?;
        let hours = history.into_iter().flatten().collect();
        Ok(Slow { hours })
    }

    /// All snapshots from now on. The first viewer starts the polling.
    fn subscribe(&self) -> Snapshots {
        let mut snapshots = self.snapshots.lock();
        // Without a sender, the polling task was aborted.
        if let Some(current) = snapshots.as_ref().filter(|one| one.has_changed().is_ok()) {
            return current.clone();
        }
        let (sender, receiver) = watch::channel(Poll::default());
        *snapshots = Some(receiver.clone());
        let (inspector, snapshots) = (self.inspector.clone(), Arc::clone(&self.snapshots));
        let failures = Arc::clone(&self.failures);
        let (watched, schedule_viewers) = (
            Arc::clone(&self.watched),
            Arc::downgrade(&self.schedule_viewers),
        );
        tokio::spawn(async move {
            let mut past = Past::default();
            loop {
                let more = More {
                    tasks: watched.lock().keys().cloned().collect(),
                    // `Live` holds one reference itself.
                    schedules: schedule_viewers.strong_count() > 1,
                };
                let started = Instant::now();
                let read = Snapshot::read(&inspector, &failures, &mut past, more).await;
                // A broker that has just recovered is polled without delay, although failed polls take long.
                let rest = read.as_ref().map_or(INTERVAL, |_| pause(started.elapsed()));
                sender.send_modify(|poll| match read {
                    Ok(snapshot) => {
                        poll.snapshot = Some(Arc::new(snapshot));
                        poll.error = None;
                    }
                    // Pages keep the previous numbers, and show that they are old.
                    Err(error) => poll.error = Some(error.to_string().into()),
                });
                tokio::time::sleep(rest).await;
                let mut snapshots = snapshots.lock();
                // One receiver is kept in `snapshots`.
                if sender.receiver_count() <= 1 {
                    *snapshots = None;
                    return;
                }
            }
        });
        receiver
    }

    /// Includes a task in each poll until the returned guard is dropped. `None` if too many tasks are watched.
    fn watch(&self, task: TaskRef) -> Option<Watched> {
        let mut watched = self.watched.lock();
        if watched.len() >= WATCHED && !watched.contains_key(&task) {
            return None;
        }
        *watched.entry(task.clone()).or_default() += 1;
        Some(Watched {
            task,
            all: Arc::clone(&self.watched),
        })
    }
}

/// The pause after a poll that took some time.
fn pause(took: Duration) -> Duration {
    INTERVAL.max(REST * took)
}

/// A task with an open page.
struct Watched {
    task: TaskRef,
    all: Arc<Mutex<HashMap<TaskRef, usize>>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(count) = all.get_mut(&self.task) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.task);
            }
        }
    }
}
