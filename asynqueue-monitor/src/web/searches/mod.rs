//! Searches over all queues and states. A search runs in the background, reports its progress and can be stopped.
//!
//! A search lives in the memory of the monitor. It belongs to a user: the same text finds the running search, so that
//! reloading a page starts nothing. It ends when nobody has viewed it for a minute.

mod excerpt;
mod report;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{BrokerError, TaskInfo},
    inspector::{Filter, FindError, Inspector, Searched},
    task::TaskId,
};
use futures_util::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use self::excerpt::excerpt;
pub(super) use self::report::{End, Found, Report};
use super::request::{Failed, View};

/// The maximum number of results that a search keeps. It counts the others.
pub(super) const MOST_KEPT: usize = 1_000;

/// The maximum number of searches that run at a time.
const MOST_RUNNING: usize = 4;

/// The maximum number of remembered searches.
const MOST_REMEMBERED: usize = 20;

/// How long an ended search is remembered.
const REMEMBERED: Duration = Duration::from_secs(600);

/// How long a search runs without a viewer.
const UNSEEN: Duration = Duration::from_secs(60);

/// How long a search that would make room for another one has no viewer.
const IDLE: Duration = Duration::from_secs(5);

/// The minimum pause for each task that was read. It bounds the load on the broker to 50,000 tasks a second.
const REST: Duration = Duration::from_micros(20);

/// All searches of a monitor.
#[derive(Default)]
pub(super) struct Searches(Mutex<VecDeque<Arc<Search>>>);

/// One search.
pub(super) struct Search {
    /// Random, so that another monitor behind the same address does not have a search with this id.
    pub(super) id: String,
    pub(super) text: String,
    pub(super) filter: Filter,
    user: Arc<str>,
    stop: CancellationToken,
    seen: Mutex<Instant>,
    report: Mutex<Report>,
}

impl Searches {
    /// The search of a user with an id. Counts as a view.
    pub(super) fn get(&self, user: &str, id: &str) -> Option<Arc<Search>> {
        self.find(|search| &*search.user == user && search.id == id)
    }

    /// The running or last search of a user for a text. Counts as a view.
    fn of(&self, user: &str, text: &str) -> Option<Arc<Search>> {
        self.find(|search| &*search.user == user && search.text == text && search.is_current())
    }

    fn find(&self, is: impl Fn(&Search) -> bool) -> Option<Arc<Search>> {
        let known = self.0.lock();
        let found = known.iter().rev().find(|search| is(search)).cloned()?;
        *found.seen.lock() = Instant::now();
        Some(found)
    }

    /// Whether a user has a running search.
    pub(super) fn is_busy(&self, user: &str) -> bool {
        let known = self.0.lock();
        let mut own = known.iter().filter(|search| &*search.user == user);
        own.any(|search| !search.has_ended())
    }

    /// Remembers a search. Returns `false` if the same one was started in the meantime. Fails if too many run, all of
    /// which have viewers.
    fn add(&self, search: &Arc<Search>) -> Result<bool, Failed> {
        let mut known = self.0.lock();
        known.retain(|search| search.is_remembered());
        let running = known.iter().filter(|search| !search.has_ended());
        let is_same = |other: &&Arc<Search>| other.user == search.user && other.text == search.text;
        if running.clone().any(|other| is_same(&other)) {
            return Ok(false);
        }
        if !search.has_ended() && running.clone().count() >= MOST_RUNNING {
            let oldest = running.min_by_key(|search| *search.seen.lock());
            match oldest.filter(|search| search.unseen_for() > IDLE) {
                Some(oldest) => oldest.end(End::Unseen),
                None => {
                    let why =
                        "Too many searches are in progress: wait until one ends, or stop one.";
                    return Err(Failed::TooMany(why.into()));
                }
            }
        }
        if known.len() >= MOST_REMEMBERED {
            let ended = known.iter().position(|search| search.has_ended());
            ended.and_then(|ended| known.remove(ended));
        }
        known.push_back(Arc::clone(search));
        Ok(true)
    }
}

/// The search of the viewer for a text: the running one, the last one if `anew` is not set, or a new one. A text that is
/// the id of tasks is found without a scan. `None` for a text without words and terms.
pub(super) async fn search(
    view: &View,
    text: &str,
    anew: bool,
) -> Result<Option<Arc<Search>>, Failed> {
    let text = text.trim();
    let (searches, user) = (&view.shared.searches, &view.user.name);
    if let Some(search) = searches
        .of(user, text)
        .filter(|search| !anew || !search.has_ended())
    {
        return Ok(Some(search));
    }
    let filter = Filter::search(text)?;
    if filter.is_empty() {
        return Ok(None);
    }
    let search = Arc::new(Search::new(user, text, filter.clone()));
    let inspector = view.inspector.clone();
    let exact = with_id(&inspector, text).await?;
    if exact.is_empty() {
        if !searches.add(&search)? {
            return Ok(searches.of(user, text));
        }
        let running = Arc::clone(&search);
        let steps = inspector.search(filter);
        tokio::spawn(async move { running.run(&inspector, steps).await });
    } else {
        search.record(&inspector, &exact);
        search.end(End::ExactId);
        searches.add(&search)?;
    }
    Ok(Some(search))
}

/// The tasks with an id, in all queues. Text that cannot be an id has none.
async fn with_id(inspector: &Inspector, text: &str) -> Result<Vec<TaskInfo>, BrokerError> {
    match TaskId::new(text) {
        Ok(_) if !text.contains(char::is_whitespace) => match inspector.find(text).await {
            Err(FindError::Broker(error)) => Err(error),
            found => Ok(found.unwrap_or_default()),
        },
        _ => Ok(Vec::new()),
    }
}

impl Search {
    fn new(user: &Arc<str>, text: &str, filter: Filter) -> Self {
        Self {
            id: TaskId::generate().to_string(),
            text: text.to_owned(),
            filter,
            user: Arc::clone(user),
            stop: CancellationToken::new(),
            seen: Mutex::new(Instant::now()),
            report: Mutex::default(),
        }
    }

    async fn run(
        &self,
        inspector: &Inspector,
        mut steps: BoxStream<'static, Result<Searched, BrokerError>>,
    ) {
        loop {
            let start = Instant::now();
            let step = tokio::select! {
                () = self.stop.cancelled() => return self.end(End::Stopped),
                step = steps.next() => step,
            };
            let read = match step {
                None => return self.end(End::Done),
                Some(Err(error)) => return self.end(End::Failed(error.to_string())),
                Some(Ok(step)) => {
                    self.record(inspector, &step.found);
                    let mut report = self.report.lock();
                    let read = step.scanned - report.scanned;
                    (report.scanned, report.total) = (step.scanned, step.total);
                    read
                }
            };
            if self.has_ended() {
                return;
            }
            if self.unseen_for() > UNSEEN {
                return self.end(End::Unseen);
            }
            // Half of the time at most, so that a slow broker has time for others.
            let rest = REST * u32::try_from(read).unwrap_or(u32::MAX);
            tokio::time::sleep(start.elapsed().max(rest)).await;
        }
    }

    fn record(&self, inspector: &Inspector, tasks: &[TaskInfo]) {
        let mut report = self.report.lock();
        if report.end.is_some() {
            return;
        }
        for info in tasks {
            let task = info.envelope.task_ref();
            // A task that moved to another state during the search is found twice.
            if report.known.contains(&task) {
                continue;
            }
            report.found += 1;
            let list = (task.queue.clone(), info.state.as_str());
            *report.lists.entry(list).or_insert(0) += 1;
            if report.kept.len() < MOST_KEPT {
                report.known.insert(task.clone());
                report.kept.push(Found {
                    task,
                    event: info.envelope.event.to_string(),
                    state: info.state,
                    enqueued_at: info.envelope.enqueued_at,
                    excerpt: excerpt(inspector, &self.filter, info),
                });
            }
        }
    }

    /// The first end counts.
    fn end(&self, end: End) {
        let mut report = self.report.lock();
        if report.end.is_none() {
            report.end = Some(end);
            report.ended = Some(Instant::now());
            report.known.clear();
        }
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
        self.end(End::Stopped);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.report.lock().end.is_some()
    }

    pub(super) fn report(&self) -> Report {
        self.report.lock().clone()
    }

    fn unseen_for(&self) -> Duration {
        self.seen.lock().elapsed()
    }

    fn is_remembered(&self) -> bool {
        let ended = self.report.lock().ended;
        ended.is_none_or(|ended| ended.elapsed() < REMEMBERED)
    }

    /// Whether viewing it again shows it. A search that ended without its viewer starts again.
    fn is_current(&self) -> bool {
        let end = self.report.lock().end.clone();
        self.is_remembered() && !matches!(end, Some(End::Unseen | End::ExactId | End::Failed(_)))
    }
}

#[cfg(test)]
mod tests {
    use asynqueue_core::memory::MemoryBroker;
    use futures_util::stream;

    use super::*;

    fn new(user: &str, text: &str) -> Arc<Search> {
        let filter = Filter::search(text).expect("a search");
        Arc::new(Search::new(&user.into(), text, filter))
    }

    fn ago(search: &Search, time: Duration) {
        *search.seen.lock() = Instant::now().checked_sub(time).expect("a time");
    }

    /// A search that never finds anything and never ends by itself.
    async fn run(search: &Search) {
        let inspector = Inspector::new(MemoryBroker::new());
        let steps = stream::repeat_with(|| Ok(Searched::default())).boxed();
        let in_time = tokio::time::timeout(Duration::from_secs(30), search.run(&inspector, steps));
        in_time.await.expect("it ends");
    }

    #[tokio::test]
    async fn a_search_ends_when_nobody_views_it_and_starts_again_when_it_is_viewed() {
        let (searches, search) = (Searches::default(), new("ada", "x"));
        assert!(searches.add(&search).expect("added"));
        assert!(searches.of("ada", "x").is_some() && searches.is_busy("ada"));
        ago(&search, UNSEEN + Duration::from_secs(1));
        run(&search).await;
        assert_eq!(search.report().end, Some(End::Unseen));
        assert!(searches.of("ada", "x").is_none() && !searches.is_busy("ada"));
        assert!(searches.get("ada", &search.id).is_some());
        assert!(searches.get("bob", &search.id).is_none());
    }

    #[tokio::test]
    async fn a_stopped_search_ends_and_is_shown_again() {
        let (searches, search) = (Searches::default(), new("ada", "x"));
        searches.add(&search).expect("added");
        let ((), ()) = tokio::join!(run(&search), async { search.stop() });
        assert_eq!(search.report().end, Some(End::Stopped));
        assert!(searches.of("ada", "x").is_some());
    }

    #[test]
    fn the_number_of_running_searches_is_bounded_and_abandoned_ones_make_room() {
        let searches = Searches::default();
        let running: Vec<_> = (0..MOST_RUNNING)
            .map(|n| new("ada", &n.to_string()))
            .collect();
        for search in &running {
            assert!(searches.add(search).expect("added"));
        }
        assert!(!searches.add(&new("ada", "0")).expect("the same search"));
        assert!(matches!(
            searches.add(&new("bob", "x")),
            Err(Failed::TooMany(_))
        ));
        ago(&running[1], IDLE + Duration::from_secs(1));
        assert!(searches.add(&new("bob", "x")).expect("added"));
        assert_eq!(running[1].report().end, Some(End::Unseen));
        assert!(!running[0].has_ended());
    }

    #[test]
    fn the_number_of_remembered_searches_is_bounded() {
        let searches = Searches::default();
        for n in 0..3 * MOST_REMEMBERED {
            let search = new("ada", &n.to_string());
            searches.add(&search).expect("added");
            search.end(End::Done);
        }
        assert_eq!(searches.0.lock().len(), MOST_REMEMBERED);
    }
}
