//! Changes of many tasks: each begins after a while in which it can be undone, tells how far it is, and can be stopped.
//!
//! A job lives in the process of the monitor. If that dies nothing is lost: what is not done yet is as it was, and the same job
//! can be asked for again.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use asynqueue_core::{broker::BrokerError, inspector::BulkProgress};
use futures_util::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::show;

/// How many jobs are remembered.
const KEPT: usize = 100;

/// How many may go on or wait at a time.
const MOST: usize = 20;

/// How many are shown on a page.
const ON_PAGE: usize = 10;

/// How long what came of a job stays on pages.
const SHOWN: Duration = Duration::from_secs(60);

/// All jobs of a monitor.
pub(super) struct Jobs {
    grace: Duration,
    known: Mutex<VecDeque<Arc<Job>>>,
    next: AtomicU64,
}

/// What a job is to do.
pub(super) struct Order {
    /// In words, such as `Deleting 3 tasks of mail`.
    pub(super) what: String,
    /// What its tasks are afterwards, such as `deleted`.
    pub(super) did: &'static str,
    /// Who wants it.
    pub(super) user: Arc<str>,
    /// Where its tasks are listed.
    pub(super) page: String,
    /// Does it, a part each time it is polled, and tells how far it is.
    pub(super) work: BoxStream<'static, Result<BulkProgress, BrokerError>>,
}

/// One change of many tasks.
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) page: String,
    what: String,
    did: &'static str,
    user: Arc<str>,
    begins: Instant,
    stop: CancellationToken,
    phase: Mutex<Phase>,
}

#[derive(Clone, Debug)]
enum Phase {
    Waits,
    Runs(BulkProgress),
    Ended {
        at: Instant,
        progress: BulkProgress,
        how: How,
    },
}

#[derive(Clone, Debug)]
enum How {
    Done,
    Undone,
    Stopped,
    Failed(String),
}

impl Jobs {
    pub(super) fn new(grace: Duration) -> Self {
        Self {
            grace,
            known: Mutex::default(),
            next: AtomicU64::new(1),
        }
    }

    /// Lets a job begin after the grace; `None` if there are too many already.
    pub(super) fn start(
        &self,
        order: Order,
        ended: impl FnOnce() + Send + 'static,
    ) -> Option<Arc<Job>> {
        let job = Arc::new(Job {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            page: order.page,
            what: order.what,
            did: order.did,
            user: order.user,
            begins: Instant::now() + self.grace,
            stop: CancellationToken::new(),
            phase: Mutex::new(Phase::Waits),
        });
        {
            let mut known = self.known.lock();
            if known.iter().filter(|job| !job.has_ended()).count() >= MOST {
                return None;
            }
            known.push_back(Arc::clone(&job));
            // One that has not ended is not forgotten, or nobody could stop it.
            let ended = known.iter().position(|job| job.has_ended());
            if let Some(ended) = ended.filter(|_| known.len() > KEPT) {
                known.remove(ended);
            }
        }
        let running = Arc::clone(&job);
        // By itself: it goes on although its browser goes away.
        tokio::spawn(async move {
            let job = Arc::clone(&running);
            let ran = tokio::spawn(async move { job.run(order.work).await }).await;
            if let Err(panicked) = ran {
                let why = How::Failed(panicked.to_string());
                running.end(running.progress(), why);
            }
            ended();
        });
        Some(job)
    }

    pub(super) fn get(&self, id: u64) -> Option<Arc<Job>> {
        let known = self.known.lock();
        known.iter().find(|job| job.id == id).cloned()
    }

    /// Those that go on, and those that have just ended; the last first.
    pub(super) fn shown(&self) -> Vec<Arc<Job>> {
        let known = self.known.lock();
        let shown = known.iter().rev().filter(|job| job.is_shown());
        shown.take(ON_PAGE).cloned().collect()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.known.lock().iter().any(|job| !job.has_ended())
    }
}

impl Job {
    async fn run(&self, mut work: BoxStream<'static, Result<BulkProgress, BrokerError>>) {
        let mut progress = BulkProgress::default();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => return self.end(progress, How::Undone),
            () = tokio::time::sleep_until(self.begins.into()) => {}
        }
        *self.phase.lock() = Phase::Runs(progress);
        // Stopped between two parts only, so that what was done is counted.
        let how = loop {
            match work.next().await {
                Some(Ok(now)) => progress = now,
                Some(Err(error)) => break How::Failed(error.to_string()),
                None => break How::Done,
            }
            *self.phase.lock() = Phase::Runs(progress);
            if self.stop.is_cancelled() {
                break How::Stopped;
            }
        };
        self.end(progress, how);
    }

    fn end(&self, progress: BulkProgress, how: How) {
        *self.phase.lock() = Phase::Ended {
            at: Instant::now(),
            progress,
            how,
        };
        tracing::info!(target: "asynqueue::audit", user = &*self.user, job = self.id, did = self.text(), "a job of the monitor has ended");
    }

    /// Undoes it before it begins, stops it afterwards.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(*self.phase.lock(), Phase::Ended { .. })
    }

    fn progress(&self) -> BulkProgress {
        match *self.phase.lock() {
            Phase::Waits => BulkProgress::default(),
            Phase::Runs(progress) | Phase::Ended { progress, .. } => progress,
        }
    }

    fn is_shown(&self) -> bool {
        match &*self.phase.lock() {
            Phase::Ended { at, .. } => at.elapsed() < SHOWN,
            _ => true,
        }
    }

    /// What can still be done about it.
    pub(super) fn offer(&self) -> Option<&'static str> {
        match *self.phase.lock() {
            Phase::Waits => Some("Undo"),
            Phase::Runs(_) => Some("Stop"),
            Phase::Ended { .. } => None,
        }
    }

    /// How far it is.
    pub(super) fn text(&self) -> String {
        let what = &self.what;
        let told = |progress: &BulkProgress| told(self.did, progress.done, progress.refused, None);
        match &*self.phase.lock() {
            Phase::Waits => {
                let left = self.begins.saturating_duration_since(Instant::now());
                format!("{what} begins in {} s.", left.as_secs() + 1)
            }
            Phase::Runs(progress) => format!("{what}: so far {}", told(progress)),
            Phase::Ended { progress, how, .. } => match how {
                How::Done => format!("{what}: {}", told(progress)),
                How::Undone => format!("{what}: undone, nothing was changed."),
                How::Stopped => format!("{what}: stopped after {}", told(progress)),
                How::Failed(why) => format!(
                    "{what} has failed: {why}. Before that, {} Ask for it again to go on.",
                    told(progress)
                ),
            },
        }
    }

    /// As it is told to the pages that show it.
    pub(super) fn figures(&self) -> Value {
        json!({ "id": self.id, "text": self.text(), "offer": self.offer() })
    }
}

/// What an action has come to, in words.
pub(super) fn told(did: &str, done: u64, refused: u64, reason: Option<&str>) -> String {
    let tasks = |count| match count {
        1 => "1 task".to_owned(),
        count => format!("{} tasks", show::number(count)),
    };
    let left = tasks(refused);
    match (refused, reason) {
        (0, _) => format!("{} {did}.", tasks(done)),
        (_, None) => format!("{} {did}, {left} left as they were.", tasks(done)),
        (_, Some(reason)) => format!("{} {did}, {left} not: {reason}.", tasks(done)),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::sync::mpsc;

    use super::*;

    type Parts = mpsc::UnboundedSender<Result<BulkProgress, BrokerError>>;

    fn order() -> (Order, Parts) {
        let (parts, work) = mpsc::unbounded_channel();
        let next = async |mut work: mpsc::UnboundedReceiver<_>| Some((work.recv().await?, work));
        let order = Order {
            what: "Deleting all".into(),
            did: "deleted",
            user: "ada".into(),
            page: "/".into(),
            work: stream::unfold(work, next).boxed(),
        };
        (order, parts)
    }

    fn done(done: u64) -> Result<BulkProgress, BrokerError> {
        Ok(BulkProgress::new(done, done, 0))
    }

    async fn until(job: &Job, text: &str) {
        let says = async {
            while !job.text().contains(text) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(30), says).await;
        in_time.unwrap_or_else(|_| panic!("{text}: {}", job.text()));
    }

    #[tokio::test]
    async fn a_job_tells_how_far_it_is_and_ends_where_it_is_stopped() {
        let jobs = Jobs::new(Duration::ZERO);
        let (order, parts) = order();
        let job = jobs.start(order, || ()).expect("begun");
        parts.send(done(1_200)).expect("it goes on");
        until(&job, "so far 1\u{202f}200 tasks deleted").await;
        assert_eq!(job.offer(), Some("Stop"));
        job.stop();
        parts.send(done(1_400)).expect("it goes on");
        until(&job, "stopped after 1\u{202f}400 tasks deleted").await;
        assert_eq!(job.offer(), None);
        assert!(!jobs.is_busy() && jobs.shown().len() == 1);
    }

    #[tokio::test]
    async fn what_is_undone_has_not_begun() {
        let jobs = Jobs::new(Duration::from_secs(3600));
        let (order, parts) = order();
        let job = jobs.start(order, || ()).expect("begun");
        assert_eq!(job.offer(), Some("Undo"));
        job.stop();
        until(&job, "nothing was changed").await;
        assert!(parts.is_closed());
    }

    #[tokio::test]
    async fn a_job_that_fails_tells_why_and_how_far_it_was() {
        let jobs = Jobs::new(Duration::ZERO);
        let (order, parts) = order();
        let job = jobs.start(order, || ()).expect("begun");
        parts.send(done(1)).expect("it goes on");
        let error = BrokerError::unavailable("gone");
        parts.send(Err(error)).expect("it goes on");
        until(&job, "has failed").await;
        assert!(job.text().contains("gone") && job.text().contains("1 task deleted"));
    }

    #[tokio::test]
    async fn a_job_that_panics_has_ended() {
        let jobs = Jobs::new(Duration::ZERO);
        let mut order = order().0;
        order.work = stream::once(async { panic!("a bug") }).boxed();
        let job = jobs.start(order, || ()).expect("begun");
        until(&job, "has failed").await;
        assert!(!jobs.is_busy() && job.text().contains("a bug"));
    }

    #[tokio::test]
    async fn those_that_ended_first_are_forgotten_first_and_no_other() {
        let jobs = Jobs::new(Duration::ZERO);
        let (kept, _parts) = order();
        let first = jobs.start(kept, || ()).expect("begun");
        for _ in 0..2 * KEPT {
            // It has nothing to do.
            let other = jobs.start(order().0, || ()).expect("begun");
            until(&other, "0 tasks deleted.").await;
        }
        assert!(jobs.get(first.id).is_some());
        assert_eq!(jobs.known.lock().len(), KEPT);
    }

    #[tokio::test]
    async fn no_more_go_on_at_a_time_than_fit_on_a_page() {
        let jobs = Jobs::new(Duration::from_secs(3600));
        for _ in 0..MOST {
            jobs.start(order().0, || ()).expect("begun");
        }
        assert!(jobs.start(order().0, || ()).is_none());
        assert_eq!(jobs.shown().len(), ON_PAGE);
        let one = &jobs.shown()[0];
        one.stop();
        until(one, "undone").await;
        assert!(jobs.start(order().0, || ()).is_some());
    }
}
