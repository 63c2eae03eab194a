//! Bulk changes. A job starts after a grace period in which it can be undone, reports its progress, and can be stopped.
//!
//! A job lives in the memory of the monitor. If the monitor dies, no task is lost: the remaining tasks are unchanged,
//! and the same job can be started again.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use asynqueue_core::{broker::BrokerError, inspector::BulkProgress};
use futures_util::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    direction::visible,
    process::{missing_job, next_job},
    show,
};

/// The maximum number of remembered jobs.
const KEPT: usize = 100;

/// The maximum number of jobs that may wait or run at a time.
const MOST: usize = 20;

/// The maximum number of jobs on a page.
const ON_PAGE: usize = 10;

/// How long pages show a job after it has ended.
const SHOWN: Duration = Duration::from_secs(60);

/// All jobs of a monitor.
pub(super) struct Jobs {
    grace: Duration,
    known: Mutex<VecDeque<Arc<Job>>>,
}

/// What a job does.
pub(super) struct JobSpec {
    /// A description, such as `Deleting 3 tasks in mail`.
    pub(super) what: String,
    /// The participle for its tasks, such as `deleted`.
    pub(super) did: &'static str,
    /// The user who started it.
    pub(super) user: Arc<str>,
    /// The URL of the list of its tasks.
    pub(super) page: String,
    /// The work: each item processes one batch and reports the progress so far.
    pub(super) work: BoxStream<'static, Result<BulkProgress, BrokerError>>,
}

/// One bulk change.
pub(super) struct Job {
    pub(super) id: String,
    pub(super) page: String,
    what: String,
    did: &'static str,
    user: Arc<str>,
    starts: Instant,
    stop: CancellationToken,
    phase: Mutex<Phase>,
}

#[derive(Clone, Debug)]
enum Phase {
    Waiting,
    Running(BulkProgress),
    Ended {
        at: Instant,
        progress: BulkProgress,
        end: End,
    },
}

#[derive(Clone, Debug)]
enum End {
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
        }
    }

    /// Starts a job after the grace period. `None` if too many jobs wait or run already.
    pub(super) fn start(
        &self,
        spec: JobSpec,
        ended: impl FnOnce() + Send + 'static,
    ) -> Option<Arc<Job>> {
        let job = Arc::new(Job {
            id: next_job(),
            page: spec.page,
            what: spec.what,
            did: spec.did,
            user: spec.user,
            starts: Instant::now() + self.grace,
            stop: CancellationToken::new(),
            phase: Mutex::new(Phase::Waiting),
        });
        {
            let mut known = self.known.lock();
            if known.iter().filter(|job| !job.has_ended()).count() >= MOST {
                return None;
            }
            known.push_back(Arc::clone(&job));
            // Only ended jobs are forgotten, because the others can still be stopped.
            let ended = known.iter().position(|job| job.has_ended());
            if let Some(ended) = ended.filter(|_| known.len() > KEPT) {
                known.remove(ended);
            }
        }
        let running = Arc::clone(&job);
        // In its own task, so that the job continues if the browser disconnects.
        tokio::spawn(async move {
            let job = Arc::clone(&running);
            let ran = tokio::spawn(async move { job.run(spec.work).await }).await;
            if let Err(panicked) = ran {
                let end = End::Failed(panicked.to_string());
                running.end(running.progress(), end);
            }
            ended();
        });
        Some(job)
    }

    /// A job of this process. The error says why there is none.
    pub(super) fn get(&self, id: &str) -> Result<Arc<Job>, String> {
        let known = self.known.lock();
        let found = known.iter().find(|job| job.id == id).cloned();
        found.ok_or_else(|| missing_job(id))
    }

    /// The jobs that wait, run or have just ended, newest first.
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
            () = self.stop.cancelled() => return self.end(progress, End::Undone),
            () = tokio::time::sleep_until(self.starts.into()) => {}
        }
        *self.phase.lock() = Phase::Running(progress);
        // A job stops between batches only, so that every changed task is counted.
        let end = loop {
            match work.next().await {
                Some(Ok(now)) => progress = now,
                Some(Err(error)) => break End::Failed(error.to_string()),
                None => break End::Done,
            }
            *self.phase.lock() = Phase::Running(progress);
            if self.stop.is_cancelled() {
                break End::Stopped;
            }
        };
        self.end(progress, end);
    }

    fn end(&self, progress: BulkProgress, end: End) {
        *self.phase.lock() = Phase::Ended {
            at: Instant::now(),
            progress,
            end,
        };
        tracing::info!(target: "asynqueue::audit", user = &*self.user, job = self.id.as_str(), did = self.text(), "job ended");
    }

    /// Undoes the job before it starts; stops it afterwards.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(*self.phase.lock(), Phase::Ended { .. })
    }

    pub(super) fn has_failed(&self) -> bool {
        let phase = self.phase.lock();
        matches!(
            &*phase,
            Phase::Ended {
                end: End::Failed(_),
                ..
            }
        )
    }

    fn progress(&self) -> BulkProgress {
        match *self.phase.lock() {
            Phase::Waiting => BulkProgress::default(),
            Phase::Running(progress) | Phase::Ended { progress, .. } => progress,
        }
    }

    fn is_shown(&self) -> bool {
        match &*self.phase.lock() {
            Phase::Ended { at, .. } => at.elapsed() < SHOWN,
            _ => true,
        }
    }

    /// The label of the button that undoes or stops the job.
    pub(super) fn offer(&self) -> Option<&'static str> {
        match *self.phase.lock() {
            Phase::Waiting => Some("Undo"),
            Phase::Running(_) => Some("Stop"),
            Phase::Ended { .. } => None,
        }
    }

    /// The description and the progress.
    pub(super) fn text(&self) -> String {
        let what = &self.what;
        let summary =
            |progress: &BulkProgress| summary(self.did, progress.done, progress.refused, None);
        match &*self.phase.lock() {
            Phase::Waiting => {
                let left = self.starts.saturating_duration_since(Instant::now());
                format!("{what} starts in {} s.", left.as_secs() + 1)
            }
            Phase::Running(progress) => format!("{what}: in progress. {}", summary(progress)),
            Phase::Ended { progress, end, .. } => match end {
                End::Done => format!("{what}: {}", summary(progress)),
                End::Undone => format!("{what}: undone. No tasks changed."),
                End::Stopped => format!("{what}: stopped. {}", summary(progress)),
                End::Failed(why) => format!(
                    "{what} failed: {why}. Before the failure: {} Start it again to continue.",
                    summary(progress)
                ),
            },
        }
    }

    /// The live update for the pages that show it.
    pub(super) fn figures(&self) -> Value {
        json!({
            "id": self.id,
            "text": visible(&self.text()),
            "offer": self.offer(),
            "failed": self.has_failed(),
        })
    }
}

/// The outcome of an action, in words.
pub(super) fn summary(did: &str, done: u64, refused: u64, reason: Option<&str>) -> String {
    let tasks = |count| match count {
        1 => "1 task".to_owned(),
        count => format!("{} tasks", show::number(count)),
    };
    let left = tasks(refused);
    match (refused, reason) {
        (0, _) => format!("{} {did}.", tasks(done)),
        (_, None) => format!("{} {did}, {left} unchanged.", tasks(done)),
        (_, Some(reason)) => format!("{} {did}, {left} unchanged: {reason}.", tasks(done)),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::sync::mpsc;

    use super::*;

    type Batches = mpsc::UnboundedSender<Result<BulkProgress, BrokerError>>;

    fn spec() -> (JobSpec, Batches) {
        let (batches, work) = mpsc::unbounded_channel();
        let next = async |mut work: mpsc::UnboundedReceiver<_>| Some((work.recv().await?, work));
        let spec = JobSpec {
            what: "Deleting all".into(),
            did: "deleted",
            user: "ada".into(),
            page: "/".into(),
            work: stream::unfold(work, next).boxed(),
        };
        (spec, batches)
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
    async fn a_job_reports_its_progress_and_stops_between_batches() {
        let jobs = Jobs::new(Duration::ZERO);
        let (spec, batches) = spec();
        let job = jobs.start(spec, || ()).expect("started");
        batches.send(done(1_200)).expect("it runs");
        until(&job, "in progress. 1\u{202f}200 tasks deleted.").await;
        assert_eq!(job.offer(), Some("Stop"));
        job.stop();
        batches.send(done(1_400)).expect("it runs");
        until(&job, "stopped. 1\u{202f}400 tasks deleted.").await;
        assert_eq!(job.offer(), None);
        assert!(!jobs.is_busy() && jobs.shown().len() == 1);
    }

    #[tokio::test]
    async fn an_undone_job_never_starts() {
        let jobs = Jobs::new(Duration::from_secs(3600));
        let (spec, batches) = spec();
        let job = jobs.start(spec, || ()).expect("started");
        assert_eq!(job.offer(), Some("Undo"));
        job.stop();
        until(&job, "undone. No tasks changed.").await;
        assert!(batches.is_closed());
    }

    #[tokio::test]
    async fn a_failed_job_reports_the_error_and_its_progress() {
        let jobs = Jobs::new(Duration::ZERO);
        let (spec, batches) = spec();
        let job = jobs.start(spec, || ()).expect("started");
        batches.send(done(1)).expect("it runs");
        let error = BrokerError::unavailable("gone");
        batches.send(Err(error)).expect("it runs");
        until(&job, "failed").await;
        assert!(job.text().contains("gone") && job.text().contains("1 task deleted"));
    }

    #[tokio::test]
    async fn a_job_that_panics_counts_as_failed() {
        let jobs = Jobs::new(Duration::ZERO);
        let mut spec = spec().0;
        spec.work = stream::once(async { panic!("a bug") }).boxed();
        let job = jobs.start(spec, || ()).expect("started");
        until(&job, "failed").await;
        assert!(!jobs.is_busy() && job.text().contains("a bug"));
    }

    #[tokio::test]
    async fn only_ended_jobs_are_forgotten_oldest_first() {
        let jobs = Jobs::new(Duration::ZERO);
        let (kept, _batches) = spec();
        let first = jobs.start(kept, || ()).expect("started");
        for _ in 0..2 * KEPT {
            // It has nothing to do.
            let other = jobs.start(spec().0, || ()).expect("started");
            until(&other, "0 tasks deleted.").await;
        }
        assert!(jobs.get(&first.id).is_ok());
        assert_eq!(jobs.known.lock().len(), KEPT);
    }

    #[tokio::test]
    async fn the_number_of_unfinished_jobs_is_limited() {
        let jobs = Jobs::new(Duration::from_secs(3600));
        for _ in 0..MOST {
            jobs.start(spec().0, || ()).expect("started");
        }
        assert!(jobs.start(spec().0, || ()).is_none());
        assert_eq!(jobs.shown().len(), ON_PAGE);
        let one = &jobs.shown()[0];
        one.stop();
        until(one, "undone").await;
        assert!(jobs.start(spec().0, || ()).is_some());
    }
}
