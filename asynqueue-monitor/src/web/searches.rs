//! Searches over all queues and states. A search runs in the background, reports its progress and can be stopped.
//!
//! A search lives in the memory of the monitor. It belongs to a user: the same text finds the running search, so that
//! reloading a page starts nothing. It ends when nobody has viewed it for a minute.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{BrokerError, TaskInfo},
    inspector::{Filter, FindError, Inspector, Searched},
    task::{Name, TaskId, TaskRef, TaskState, Timestamp},
};
use futures_util::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    request::{Failed, View},
    show,
};

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

/// What a search has found so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) scanned: u64,
    pub(super) total: u64,
    /// How many tasks match, including those that are not kept.
    pub(super) found: u64,
    /// The first results.
    pub(super) kept: Vec<Found>,
    /// How many tasks match, by queue and state.
    pub(super) lists: BTreeMap<(Name, &'static str), u64>,
    pub(super) end: Option<End>,
    ended: Option<Instant>,
    known: BTreeSet<TaskRef>,
}

/// A task that matches.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) task: TaskRef,
    pub(super) event: String,
    pub(super) state: TaskState,
    pub(super) enqueued_at: Timestamp,
    /// The text around the match.
    pub(super) excerpt: String,
}

/// Why a search ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Done,
    /// The text is the id of these tasks, so that nothing was scanned.
    ExactId,
    Stopped,
    Unseen,
    Failed(String),
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

impl Report {
    /// The progress in words.
    pub(super) fn text(&self) -> String {
        let (scanned, total) = (show::number(self.scanned), show::number(self.total));
        let found = show::number(self.found);
        match &self.end {
            None => format!("{scanned} of {total} tasks searched, {found} found."),
            Some(End::Done) => format!("All {scanned} tasks searched, {found} found."),
            Some(End::ExactId) => "Tasks with this ID.".to_owned(),
            Some(End::Stopped) => {
                format!("Stopped. {scanned} of {total} tasks searched, {found} found.")
            }
            Some(End::Unseen) => {
                format!(
                    "Stopped without a viewer. {scanned} of {total} tasks searched, {found} found."
                )
            }
            Some(End::Failed(why)) => {
                format!("Failed: {why}. {scanned} of {total} tasks searched, {found} found.")
            }
        }
    }
}

/// The text of a task around the first word that was searched for, or what lists show of it.
fn excerpt(inspector: &Inspector, filter: &Filter, info: &TaskInfo) -> String {
    let envelope = &info.envelope;
    let payload = inspector.payload(info).to_string();
    let failures = envelope.failures().iter().rev();
    let failures = failures.map(|failure| format!("{} {}", failure.kind, failure.message));
    let headers = envelope.headers.iter();
    let headers = headers.map(|(name, value)| format!("{name}={value}"));
    let texts: Vec<_> = failures.chain([payload]).chain(headers).collect();
    let mut words = filter.texts().iter();
    let around = words.find_map(|word| texts.iter().find_map(|text| around(text, word)));
    // The last failure, or the payload.
    around.unwrap_or_else(|| {
        texts
            .first()
            .map_or_else(String::new, |text| show::cut(text))
    })
}

/// The part of a text around a word, ignoring case.
fn around(text: &str, word: &str) -> Option<String> {
    const BEFORE: usize = 40;
    let chars: Vec<char> = text.chars().collect();
    let lower = |c: &char| c.to_lowercase().next().unwrap_or(*c);
    let (folded, word): (Vec<_>, Vec<_>) = (
        chars.iter().map(lower).collect(),
        word.chars().map(|c| lower(&c)).collect(),
    );
    let at = folded
        .windows(word.len().max(1))
        .position(|part| part == word)?;
    let from = if at > BEFORE { at - BEFORE / 2 } else { 0 };
    let cut = show::cut(&chars[from..].iter().collect::<String>());
    Some(if from > 0 { format!("…{cut}") } else { cut })
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

    #[test]
    fn an_excerpt_is_around_the_word() {
        let text = format!("{} Order 1000123 {}", "a".repeat(100), "b".repeat(200));
        let found = around(&text, "ORDER 1000").expect("found");
        assert!(
            found.starts_with("…aaa") && found.contains("Order 1000123 bbb"),
            "{found}"
        );
        assert_eq!(around("short", "SHORT").as_deref(), Some("short"));
        assert_eq!(around("short", "long"), None);
    }
}
