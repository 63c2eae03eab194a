//! What a process knows of the task it runs.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{IsFailure, MissingState, State, TaskError, TaskErrorKind};
use crate::{
    codec::{CodecError, MessagePack},
    layer::{Gate, Gates},
    task::{Envelope, Headers, Name, TaskId, TaskRef, Timestamp},
};

/// The task that is being run: where it comes from, how long it may take, and ways to report back. Cheap to clone.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    envelope: Arc<Envelope>,
    worker: Name,
    started: Timestamp,
    waited: Option<Duration>,
    end: AttemptEnd,
    cancelled: CancellationToken,
    /// Whether it was told to stop because the server shuts down.
    cut_off: AtomicBool,
    /// Whether its outcome was decided without waiting for it any longer.
    given_up: AtomicBool,
    state: State,
    /// The limits that it was let in through.
    gates: Gates,
    report: Mutex<Report>,
}

/// When an attempt is given up.
#[derive(Clone, Copy)]
pub(crate) struct AttemptEnd {
    pub(crate) at: Instant,
    /// Whether that is the task's deadline, and not just this attempt's timeout.
    pub(crate) is_deadline: bool,
}

#[derive(Default)]
struct Report {
    progress: Option<Progress>,
    /// Whether `progress` is newer than what was last sent.
    unsent: bool,
    result: Option<Vec<u8>>,
}

/// How far a task has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Units of work done.
    pub done: u64,
    /// Units of work in all.
    pub total: u64,
    /// What is being done.
    pub note: String,
}

impl Context {
    pub(crate) fn new(
        envelope: Arc<Envelope>,
        worker: Name,
        started: Timestamp,
        pending_since: Option<Timestamp>,
        end: AttemptEnd,
        state: State,
    ) -> Self {
        Self(Arc::new(Inner {
            envelope,
            worker,
            started,
            waited: pending_since.map(|since| started.since(since)),
            end,
            cancelled: CancellationToken::new(),
            cut_off: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            state,
            gates: Gates::default(),
            report: Mutex::default(),
        }))
    }

    /// Notes the limits that the server has let this attempt in through, before anything else has this context.
    pub(crate) fn let_in(&mut self, gates: &Gates) {
        if let (false, Some(inner)) = (gates.is_empty(), Arc::get_mut(&mut self.0)) {
            inner.gates = gates.clone();
        }
    }

    /// Whether the server has let this attempt in through a limit.
    pub(crate) fn was_let_in(&self, gate: &Arc<Gate>) -> bool {
        self.0.gates.has(gate)
    }

    /// The task's id.
    pub fn id(&self) -> &TaskId {
        &self.0.envelope.id
    }

    /// The queue it came from.
    pub fn queue(&self) -> &Name {
        &self.0.envelope.queue
    }

    /// The event.
    pub fn event(&self) -> &Name {
        &self.0.envelope.event
    }

    /// Points at this task.
    pub fn task_ref(&self) -> TaskRef {
        self.0.envelope.task_ref()
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.0.envelope.attempts.saturating_add(1)
    }

    /// How often it is retried before it is archived.
    pub fn max_retry(&self) -> u32 {
        self.0.envelope.options.max_retry
    }

    /// The caller's own key-value pairs.
    pub fn headers(&self) -> &Headers {
        &self.0.envelope.headers
    }

    /// The label of its group.
    pub fn group(&self) -> Option<&Name> {
        self.0.envelope.options.group.as_ref()
    }

    /// All that travels with the task.
    pub fn envelope(&self) -> &Arc<Envelope> {
        &self.0.envelope
    }

    /// The worker that runs it.
    pub fn worker(&self) -> &Name {
        &self.0.worker
    }

    /// When this attempt began, by the broker's clock.
    pub fn started(&self) -> Timestamp {
        self.0.started
    }

    /// How long it was pending before this attempt, by the broker's clock; `None` where the broker could not tell.
    pub fn waited(&self) -> Option<Duration> {
        self.0.waited
    }

    /// When this attempt is given up: at its timeout or its deadline, whichever is first.
    pub fn deadline(&self) -> Instant {
        self.0.end.at
    }

    pub(crate) fn ends_by_deadline(&self) -> bool {
        self.0.end.is_deadline
    }

    /// How long this attempt may still take.
    pub fn remaining(&self) -> Duration {
        self.0.end.at.saturating_duration_since(Instant::now())
    }

    /// Completes when the task is cancelled, its lease is lost or the server shuts down.
    pub async fn cancelled(&self) {
        self.0.cancelled.cancelled().await;
    }

    /// Whether the task is cancelled, its lease lost or the server shutting down.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.is_cancelled()
    }

    /// The token behind [`cancelled`](Self::cancelled), to hand to libraries.
    pub fn cancellation_token(&self) -> &CancellationToken {
        &self.0.cancelled
    }

    /// The server's shared value of type `T`.
    ///
    /// # Errors
    ///
    /// When the server was given none.
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<&T, MissingState> {
        self.0.state.get()
    }

    /// Tells the handler to stop because the server shuts down.
    pub(crate) fn cut_off(&self) {
        self.0.cut_off.store(true, SeqCst);
        self.0.cancelled.cancel();
    }

    /// Notes that its slot was given up.
    pub(crate) fn give_up(&self) {
        self.0.given_up.store(true, SeqCst);
    }

    /// Whether its slot was given up, so that what it comes to counts no more.
    pub(crate) fn is_given_up(&self) -> bool {
        self.0.given_up.load(SeqCst)
    }

    /// Whether the task is given back after this error, rather than failed: it was cut off, and asks for another attempt.
    pub(crate) fn gives_back(&self, error: &TaskError) -> bool {
        let is_retried = matches!(
            error.kind(),
            TaskErrorKind::Retry | TaskErrorKind::RetryAfter(_)
        );
        is_retried && self.0.cut_off.load(SeqCst)
    }

    /// Whether an error that is to be retried counts as an attempt.
    pub(crate) fn is_failure(&self, error: &TaskError) -> bool {
        self.state::<IsFailure>()
            .map_or(true, |is_failure| (is_failure.0)(error))
    }

    /// Reports that `done` of `total` units are done. Cheap: the server sends on the newest report a few times a
    /// second, and observers see it in the task's [`progress`](crate::TaskInfo::progress).
    pub fn progress(&self, done: u64, total: u64, note: impl Into<String>) {
        let mut report = self.0.report.lock();
        report.progress = Some(Progress {
            done,
            total,
            note: note.into(),
        });
        report.unsent = true;
    }

    /// Sets the task's result, for processes whose output is `()`. It is encoded as the payload was, in MessagePack
    /// or JSON.
    ///
    /// # Errors
    ///
    /// When `value` cannot be encoded, or the payload is in another codec.
    pub fn set_result(&self, value: &impl Serialize) -> Result<(), CodecError> {
        let encoded = self.envelope().codec.encode::<_, MessagePack>(value)?;
        self.0.report.lock().result = Some(encoded);
        Ok(())
    }

    /// The newest progress, if it was not taken yet.
    pub(crate) fn take_progress(&self) -> Option<Progress> {
        let mut report = self.0.report.lock();
        std::mem::take(&mut report.unsent)
            .then(|| report.progress.clone())
            .flatten()
    }

    pub(crate) fn take_result(&self) -> Option<Vec<u8>> {
        self.0.report.lock().result.take()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("task", &self.task_ref().to_string())
            .field("event", self.event())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}
