//! What a process knows of the task it runs.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use tokio::time::Instant;

use super::{
    DEFAULT_MAX_RESULT, IsFailure, MaxResult, MissingState, ResultTooLarge, ServerState,
    SetResultError, TaskError, TaskErrorKind,
    blocking::{Blocking, Bounds},
};
use crate::{
    broker::SharedBroker,
    layer::{Gate, Gates},
    sync::Mutex,
    task::{Envelope, FailureKind, Headers, Name, TaskId, TaskRef, Timestamp, cut},
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
    /// Whether it was asked to stop because the task is cancelled or its lease lost.
    stopped: AtomicBool,
    /// Whether it was asked to stop because the server shuts down.
    cut_off: AtomicBool,
    /// Whether its outcome was decided without waiting for it any longer.
    given_up: AtomicBool,
    provided: Arc<Provided>,
    /// The limits that it has passed.
    gates: Gates,
    report: Mutex<Report>,
    /// The slot that it runs in; none outside of a server.
    bounds: Weak<Bounds>,
    blocking: Blocking,
}

/// What all attempts on a server have in common.
#[derive(Debug)]
pub(crate) struct Provided {
    pub(crate) state: ServerState,
    pub(crate) broker: SharedBroker,
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
    result: Outcome,
    /// The span of the attempt, once that has ended without success.
    span: Option<Span>,
}

/// The result that a process may set.
#[derive(Default)]
enum Outcome {
    #[default]
    Unset,
    Set(Vec<u8>),
    /// The task's output takes its place.
    IsOutput,
    /// The process has returned.
    Over,
}

/// How far a task has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// Units of work done.
    pub done: u64,
    /// Units of work in all.
    pub total: u64,
    /// What is being done. Cut to [`Progress::MAX_NOTE`] bytes.
    pub note: String,
}

impl Progress {
    /// Bytes kept of a note.
    pub const MAX_NOTE: usize = 4 * 1024;

    /// `done` units of work of `total`, and what is being done.
    pub fn new(done: u64, total: u64, note: impl Into<String>) -> Self {
        Self {
            done,
            total,
            note: note.into(),
        }
    }
}

impl Context {
    pub(crate) fn new(
        envelope: Arc<Envelope>,
        worker: Name,
        started: Timestamp,
        pending_since: Option<Timestamp>,
        end: AttemptEnd,
        provided: Arc<Provided>,
        bounds: Weak<Bounds>,
    ) -> Self {
        Self(Arc::new(Inner {
            envelope,
            worker,
            started,
            waited: pending_since.map(|since| started.since(since)),
            end,
            cancelled: CancellationToken::new(),
            stopped: AtomicBool::new(false),
            cut_off: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            provided,
            gates: Gates::default(),
            report: Mutex::default(),
            bounds,
            blocking: Blocking::default(),
        }))
    }

    /// Notes the limits that this attempt has passed on its server, before anything else has this context.
    pub(crate) fn let_in(&mut self, gates: &Gates) {
        if let (false, Some(inner)) = (gates.is_empty(), Arc::get_mut(&mut self.0)) {
            inner.gates = gates.clone();
        }
    }

    /// Whether this attempt has passed a limit on its server.
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
    pub fn deadline(&self) -> std::time::Instant {
        self.0.end.at.into_std()
    }

    pub(crate) fn end(&self) -> Instant {
        self.0.end.at
    }

    pub(super) fn bounds(&self) -> Option<Arc<Bounds>> {
        self.0.bounds.upgrade()
    }

    pub(super) fn blocking(&self) -> &Blocking {
        &self.0.blocking
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

    /// The server's shared value of type `T`. A function that takes it as an argument of type [`State<T>`](crate::process::State)
    /// has it checked when the server is built.
    ///
    /// # Errors
    ///
    /// When the server was given none. A handler that returns this error asks for another attempt, which is not counted:
    /// it is the server that lacks something, and another may have it.
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<&T, MissingState> {
        self.0.provided.state.get()
    }

    pub(crate) fn server_state(&self) -> &ServerState {
        &self.0.provided.state
    }

    pub(crate) fn broker(&self) -> &SharedBroker {
        &self.0.provided.broker
    }

    /// Asks the handler to stop because the task is cancelled or its lease lost.
    pub(crate) fn stop(&self) {
        self.0.stopped.store(true, SeqCst);
        self.0.cancelled.cancel();
    }

    /// Whether the handler was asked to stop because the task is cancelled or its lease lost.
    pub(crate) fn is_stopped(&self) -> bool {
        self.0.stopped.load(SeqCst)
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
        // A fault of this server's set-up. One that is set up well, as after the next deploy, can run the task.
        error.failure_kind() != FailureKind::MissingState
            && self
                .state::<IsFailure>()
                .map_or(true, |is_failure| (is_failure.0)(error))
    }

    /// Reports that `done` of `total` units are done. Cheap: the server sends on the newest report a few times a
    /// second, and observers see it in the task's [`progress`](crate::broker::TaskInfo::progress). A note is cut after 4 KiB.
    pub fn progress(&self, done: u64, total: u64, note: impl Into<String>) {
        let mut note = note.into();
        cut(&mut note, Progress::MAX_NOTE);
        let mut report = self.0.report.lock();
        report.progress = Some(Progress { done, total, note });
        report.unsent = true;
    }

    /// Sets the task's result, for processes whose output is `()`. It is encoded as the payload was, in MessagePack
    /// or JSON. Types with a human-readable form, such as `Uuid`, are written in that form.
    ///
    /// # Errors
    ///
    /// When the task's type has an output, which is its result, or the process has returned; when `value` cannot be encoded, or
    /// the payload is in another codec; and when the result is [too large](crate::server::ServerBuilder::max_result).
    pub fn set_result(&self, value: &impl Serialize) -> Result<(), SetResultError> {
        let encoded = self.envelope().codec.encode_for_any(value);
        let encoded = encoded.map_err(SetResultError::Encode)?;
        self.check_result(&encoded)?;
        let event = || self.event().clone();
        let result = &mut self.0.report.lock().result;
        match result {
            Outcome::Unset | Outcome::Set(_) => *result = Outcome::Set(encoded),
            Outcome::IsOutput => return Err(SetResultError::HasOutput { event: event() }),
            Outcome::Over => return Err(SetResultError::TooLate { event: event() }),
        }
        Ok(())
    }

    /// Checks that a result is not too large for this server.
    pub(crate) fn check_result(&self, encoded: &[u8]) -> Result<(), ResultTooLarge> {
        let limit = self
            .state::<MaxResult>()
            .map_or(DEFAULT_MAX_RESULT, |max| max.0);
        let size = encoded.len();
        if size > limit {
            return Err(ResultTooLarge { size, limit });
        }
        Ok(())
    }

    /// Notes whether the process that begins has an output, which excludes any other result. A layer may run it again.
    pub(crate) fn begin(&self, has_output: bool) {
        let result = &mut self.0.report.lock().result;
        match (has_output, &*result) {
            (true, Outcome::Set(_)) => {
                tracing::warn!(task = %self.task_ref(), event = %self.event(),
                "a layer has set a result, but the output of the process takes its place")
            }
            (false, Outcome::Over) => *result = Outcome::Unset,
            _ => {}
        }
        if has_output {
            *result = Outcome::IsOutput;
        }
    }

    /// The newest progress, if it was not taken yet.
    pub(crate) fn take_progress(&self) -> Option<Progress> {
        let mut report = self.0.report.lock();
        std::mem::take(&mut report.unsent)
            .then(|| report.progress.clone())
            .flatten()
    }

    /// Keeps the span of an attempt that did not succeed, so that later events can be added to it.
    pub(crate) fn keep_span(&self, span: Span) {
        self.0.report.lock().span = Some(span);
    }

    pub(crate) fn take_span(&self) -> Span {
        let span = self.0.report.lock().span.take();
        span.unwrap_or_else(Span::none)
    }

    /// The result that was set; none can be set from now on.
    pub(crate) fn take_result(&self) -> Option<Vec<u8>> {
        let result = std::mem::replace(&mut self.0.report.lock().result, Outcome::Over);
        match result {
            Outcome::Set(encoded) => Some(encoded),
            Outcome::Unset | Outcome::IsOutput | Outcome::Over => None,
        }
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
