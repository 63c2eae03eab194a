//! Figures that change while one looks: server-sent events, a second apart.
//!
//! The broker is asked once a second, however many look, and not at all while nobody does. Pages that are loaded while
//! somebody looks are made of what was seen last, and what else they need is read once for all who look at the same.

mod memo;
mod seen;
mod stream;

use std::{
    collections::HashMap,
    hash::Hash,
    sync::Arc,
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{BrokerError, GroupInfo, HourStats, Page, ServerInfo, TaskInfo},
    inspector::{Filter, Inspector},
    task::{Name, TaskRef, TaskState},
};
use parking_lot::Mutex;
use tokio::sync::watch;

use self::{
    memo::Memo,
    seen::{More, Past},
};
pub(super) use self::{
    seen::{Fleet, Seen},
    stream::stream,
};
use super::{
    attention::Concern,
    reading::{
        history::{A_DAY, first_hour},
        queue::{self, Contents},
        schedules::{self, Schedules},
    },
};

const INTERVAL: Duration = Duration::from_secs(1);

/// The broker is left alone for so many times as long as it took to answer, so that thousands of queues are no load.
const REST: u32 = 9;

/// How many tasks are looked at beside queues and servers.
const WATCHED: usize = 100;

/// For how long what changes slowly is not asked for again.
const SLOWLY: Duration = Duration::from_secs(10);

/// What all viewers are told.
pub(super) struct Live {
    inspector: Inspector,
    /// What was seen last; there only while someone looks.
    seen: Arc<Mutex<Option<Told>>>,
    /// The tasks whose pages are open, and how often.
    watched: Arc<Mutex<HashMap<TaskRef, usize>>>,
    /// When something was changed here: what was seen before that is not shown any more.
    changed: Arc<Mutex<Option<Instant>>>,
    /// How many look at schedules.
    of_schedules: Arc<()>,
    slow: Memo<(), Slow>,
    pub(super) contents: Memo<(Name, queue::Part), Contents>,
    pub(super) tasks: Memo<TaskRef, Option<TaskInfo>>,
    pub(super) schedules: Memo<schedules::Part, Schedules>,
    pub(super) groups: Memo<(), Vec<GroupInfo>>,
}

type Told = watch::Receiver<Option<Arc<Seen>>>;

/// What changes slowly.
#[derive(Debug, Default)]
pub(super) struct Slow {
    /// What ended in each hour of the last day, in all queues.
    pub(super) hours: Vec<HourStats>,
    /// What fails most in the queues where much does, in words.
    pub(super) blame: HashMap<Name, String>,
}

impl Live {
    pub(super) fn new(inspector: Inspector) -> Self {
        Self {
            inspector,
            seen: Arc::default(),
            watched: Arc::default(),
            changed: Arc::default(),
            of_schedules: Arc::default(),
            slow: Memo::default(),
            contents: Memo::default(),
            tasks: Memo::default(),
            schedules: Memo::default(),
            groups: Memo::default(),
        }
    }

    /// Queues and servers: what was seen last, if someone looks; else as they are now.
    pub(super) async fn now(&self) -> Result<Arc<Seen>, BrokerError> {
        match self.last() {
            Some(seen) => Ok(seen),
            None => Seen::read(&self.inspector, &mut Past::default(), More::default())
                .await
                .map(Arc::new),
        }
    }

    /// What was seen last, if someone looks and nothing was changed here since.
    fn last(&self) -> Option<Arc<Seen>> {
        let last = {
            let seen = self.seen.lock();
            seen.as_ref().and_then(|seen| seen.borrow().clone())
        };
        let changed = *self.changed.lock();
        last.filter(|seen| {
            let lasts = (2 * INTERVAL).max((REST + 2) * seen.took);
            seen.at.elapsed() < lasts && changed.is_none_or(|changed| changed < seen.at)
        })
    }

    /// The servers: those that were seen last, if someone looks; else as they are now.
    pub(super) async fn servers(&self) -> Result<Vec<ServerInfo>, BrokerError> {
        match self.last() {
            Some(seen) => Ok(seen.servers.clone()),
            None => self.inspector.servers().await,
        }
    }

    /// What else a page needs. While someone looks, it is read once after each look for all who ask for the same.
    pub(super) async fn read<K: Eq + Hash, V>(
        &self,
        memo: &Memo<K, V>,
        asked: K,
        read: impl Future<Output = Result<V, BrokerError>>,
    ) -> Result<Arc<V>, BrokerError> {
        match self.last() {
            Some(seen) => memo.get(asked, seen.at, read).await,
            None => read.await.map(Arc::new),
        }
    }

    /// Says that something was changed here, so that the next page shows it.
    pub(super) fn has_changed(&self) {
        *self.changed.lock() = Some(Instant::now());
    }

    /// The same, for who has nothing but this.
    pub(super) fn on_change(&self) -> impl FnOnce() + Send + 'static {
        let changed = Arc::clone(&self.changed);
        move || *changed.lock() = Some(Instant::now())
    }

    /// What changes slowly, as it was some seconds ago at most.
    pub(super) async fn slow(&self, seen: &Seen) -> Result<Arc<Slow>, BrokerError> {
        let now = Instant::now();
        let not_before = now.checked_sub(SLOWLY).unwrap_or(now);
        self.slow.get((), not_before, self.read_slow(seen)).await
    }

    async fn read_slow(&self, seen: &Seen) -> Result<Slow, BrokerError> {
        let names: Vec<_> = seen.queues.iter().map(|queue| queue.name.clone()).collect();
        let since = first_hour(self.inspector.now(), A_DAY);
        let history = self.inspector.history_since(&names, since).await?;
        let mut blame = HashMap::new();
        let failing = seen.concerns.iter().filter_map(|concern| match concern {
            Concern::Failing { queue, .. } => Some(queue),
            _ => None,
        });
        for queue in failing.take(5) {
            if let Some(words) = self.blame(queue).await? {
                blame.insert(queue.clone(), words);
            }
        }
        let hours = history.into_iter().flatten().collect();
        Ok(Slow { hours, blame })
    }

    /// What most of the tasks that failed last in a queue are, and why they failed.
    async fn blame(&self, queue: &Name) -> Result<Option<String>, BrokerError> {
        let mut counts: HashMap<(Name, String), usize> = HashMap::new();
        for state in [TaskState::Retry, TaskState::Archived] {
            let page = Page::first(50);
            let all = Filter::default();
            let found = self.inspector.list(queue, state, &all, page).await?;
            for task in found.tasks {
                if let Some(failure) = task.envelope.last_failure() {
                    let why = (task.envelope.event.clone(), failure.message.clone());
                    *counts.entry(why).or_default() += 1;
                }
            }
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        Ok(most.map(|((event, message), _)| format!("{event}: {message}")))
    }

    /// What is seen from now on. The first who looks lets it be looked at.
    fn look(&self) -> Told {
        let mut seen = self.seen.lock();
        // One that nobody tells any more has been broken off.
        if let Some(seen) = seen.as_ref().filter(|seen| seen.has_changed().is_ok()) {
            return seen.clone();
        }
        let (tell, told) = watch::channel(None);
        *seen = Some(told.clone());
        let (inspector, seen) = (self.inspector.clone(), Arc::clone(&self.seen));
        let (watched, of_schedules) = (
            Arc::clone(&self.watched),
            Arc::downgrade(&self.of_schedules),
        );
        tokio::spawn(async move {
            let mut past = Past::default();
            loop {
                let more = More {
                    tasks: watched.lock().keys().cloned().collect(),
                    // One is kept by all.
                    schedules: of_schedules.strong_count() > 1,
                };
                let begun = Instant::now();
                // What cannot be read now is read in a second; the figures stand still meanwhile.
                if let Ok(seen) = Seen::read(&inspector, &mut past, more).await {
                    tell.send_replace(Some(Arc::new(seen)));
                }
                tokio::time::sleep(INTERVAL.max(REST * begun.elapsed())).await;
                let mut seen = seen.lock();
                // One is kept in `seen`.
                if tell.receiver_count() <= 1 {
                    *seen = None;
                    return;
                }
            }
        });
        told
    }

    /// Looks at a task too, until the answer is dropped; not if that would be too many.
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

/// A task whose page is open.
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
