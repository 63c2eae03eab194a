//! Figures that change while one looks: server-sent events, a second apart.
//!
//! The broker is asked once a second, however many look, and not at all while nobody does. Pages that are loaded while
//! somebody looks are made of what was seen last.

mod seen;
mod stream;

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use asynqueue_core::{
    BrokerError, HourStats, Inspector, Name, Page, TaskRef, TaskState, Timestamp,
    inspector::QueueInfo,
};
use parking_lot::Mutex;
use tokio::sync::watch;

use self::seen::Past;
pub(super) use self::{
    seen::{SLOW, Seen, is_failing, version_of_queues},
    stream::{stream, version_of_jobs},
};

const INTERVAL: Duration = Duration::from_secs(1);

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
    slow: Mutex<Option<(Instant, Arc<Slow>)>>,
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
            slow: Mutex::default(),
        }
    }

    /// Queues and servers: what was seen last, if someone looks; else as they are now.
    pub(super) async fn now(&self) -> Result<Arc<Seen>, BrokerError> {
        let last = {
            let seen = self.seen.lock();
            seen.as_ref().and_then(|seen| seen.borrow().clone())
        };
        let changed = *self.changed.lock();
        let is_fresh = |seen: &Arc<Seen>| {
            seen.at.elapsed() < 2 * INTERVAL && changed.is_none_or(|changed| changed < seen.at)
        };
        match last.filter(is_fresh) {
            Some(seen) => Ok(seen),
            None => Seen::read(&self.inspector, &mut Past::default(), &[])
                .await
                .map(Arc::new),
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
    pub(super) async fn slow(&self, queues: &[QueueInfo]) -> Result<Arc<Slow>, BrokerError> {
        let known = self.slow.lock().clone();
        if let Some((_, slow)) = known.filter(|(at, _)| at.elapsed() < SLOWLY) {
            return Ok(slow);
        }
        let names: Vec<_> = queues.iter().map(|queue| queue.name.clone()).collect();
        let broker = self.inspector.broker();
        let since = broker
            .now()
            .as_millis()
            .saturating_sub(23 * HourStats::MILLIS);
        let history = broker
            .history(&names, Timestamp::from_millis(since))
            .await?;
        let mut blame = HashMap::new();
        for queue in queues.iter().filter(|queue| is_failing(queue)).take(5) {
            if let Some(words) = self.blame(&queue.name).await? {
                blame.insert(queue.name.clone(), words);
            }
        }
        let hours = history.into_iter().flatten().collect();
        let slow = Arc::new(Slow { hours, blame });
        *self.slow.lock() = Some((Instant::now(), Arc::clone(&slow)));
        Ok(slow)
    }

    /// What most of the tasks that failed last in a queue are, and why they failed.
    async fn blame(&self, queue: &Name) -> Result<Option<String>, BrokerError> {
        let mut counts: HashMap<(Name, String), usize> = HashMap::new();
        for state in [TaskState::Retry, TaskState::Archived] {
            let page = Page {
                after: None,
                limit: 50,
            };
            let found = self.inspector.broker().list(queue, state, page).await?;
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
        let watched = Arc::clone(&self.watched);
        tokio::spawn(async move {
            let mut past = Past::default();
            loop {
                let tasks: Vec<_> = watched.lock().keys().cloned().collect();
                // What cannot be read now is read in a second; the figures stand still meanwhile.
                if let Ok(seen) = Seen::read(&inspector, &mut past, &tasks).await {
                    tell.send_replace(Some(Arc::new(seen)));
                }
                tokio::time::sleep(INTERVAL).await;
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

    /// Looks at a task too, until the answer is dropped.
    fn watch(&self, task: TaskRef) -> Watched {
        *self.watched.lock().entry(task.clone()).or_default() += 1;
        Watched {
            task,
            all: Arc::clone(&self.watched),
        }
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

/// Tells whether something is as it was on a page.
pub(super) fn version(of: impl std::fmt::Debug) -> String {
    let mut hasher = DefaultHasher::new();
    format!("{of:?}").hash(&mut hasher);
    format!("{:x}", hasher.finish())
}
