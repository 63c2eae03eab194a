//! The context of an attempt.

use std::{
    any::{TypeId, type_name},
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use tokio::time::Instant;

use super::{
    CompletionError, DEFAULT_MAX_RESULT, IsFailure, MaxResult, MissingState, ResultTooLarge,
    ServerState, SetResultError, TaskError, TaskErrorKind,
    blocking::{Blocking, Bounds},
};
use crate::{
    broker::{self, LeaseToken, Leased, Settlement, SharedBroker},
    codec::MessagePack,
    layer::{Gate, Gates},
    sync::Mutex,
    task::{Envelope, FailureKind, Headers, Name, Run, TaskId, TaskRef, Timestamp, cut},
};

/// The attempt that is running: its task, its time limits, and ways to report progress and a result. Cheap to clone.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    envelope: Arc<Envelope>,
    worker: Name,
    started: Timestamp,
    waited: Option<Duration>,
    end: AttemptEnd,
    cancelled: CancellationToken,
    /// Whether a stop was requested because the task is cancelled or its lease is lost.
    stopped: AtomicBool,
    /// Whether a stop was requested because the server is shutting down.
    cut_off: AtomicBool,
    /// Whether the slot was abandoned, with the outcome decided by the server.
    abandoned: AtomicBool,
    /// Whether the handler has taken the outcome of its completion, to record it in a transaction.
    completion: AtomicBool,
    provided: Arc<Provided>,
    /// The token of its lease, and the task as it was leased. None outside a server.
    lease: Option<(LeaseToken, Arc<Envelope>)>,
    /// The limits that it has passed.
    gates: Gates,
    report: Mutex<Report>,
    /// The bounds of its slot; none outside a server.
    bounds: Weak<Bounds>,
    blocking: Blocking,
}

/// What all attempts on a server share.
#[derive(Debug)]
pub(crate) struct Provided {
    pub(crate) state: ServerState,
    pub(crate) broker: SharedBroker,
}

/// When an attempt ends if it has not returned.
#[derive(Clone, Copy)]
pub(crate) struct AttemptEnd {
    pub(crate) at: Instant,
    /// Whether this is the task's deadline rather than the attempt's timeout.
    pub(crate) is_deadline: bool,
}

#[derive(Default)]
struct Report {
    progress: Option<Progress>,
    /// Whether `progress` is newer than the last report sent.
    unsent: bool,
    /// The output of the handler that has started last.
    output: Option<OutputType>,
    result: Outcome,
    /// The span of the attempt, if it ended without success.
    span: Option<Span>,
}

/// The type of a handler's output.
#[derive(Clone, Copy)]
struct OutputType {
    id: TypeId,
    name: &'static str,
}

impl OutputType {
    fn of<O: 'static>() -> Self {
        Self {
            id: TypeId::of::<O>(),
            name: type_name::<O>(),
        }
    }
}

/// The result that a handler may set.
#[derive(Default)]
enum Outcome {
    #[default]
    Unset,
    Set(Vec<u8>),
    /// The result is the output of the handler.
    IsOutput,
    /// The handler has returned.
    Over,
}

/// The progress of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// Units of work done so far.
    pub done: u64,
    /// Units of work in total.
    pub total: u64,
    /// The current step, for display. Truncated to [`Progress::MAX_NOTE`] bytes.
    pub note: String,
}

impl Progress {
    /// The maximum length of a note, in bytes.
    pub const MAX_NOTE: usize = 4 * 1024;

    /// Creates a report that `done` units of `total` are done, with a note on the current step.
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
            abandoned: AtomicBool::new(false),
            completion: AtomicBool::new(false),
            provided,
            lease: None,
            gates: Gates::default(),
            report: Mutex::default(),
            bounds,
            blocking: Blocking::default(),
        }))
    }

    /// Records the limits that this attempt has passed on its server. Called before the context is shared.
    pub(crate) fn set_passed(&mut self, gates: &Gates) {
        if let (false, Some(inner)) = (gates.is_empty(), Arc::get_mut(&mut self.0)) {
            inner.gates = gates.clone();
        }
    }

    /// Records the lease of this attempt. Called before the context is shared.
    pub(crate) fn set_lease(&mut self, leased: &Leased) {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.lease = Some((leased.token, Arc::clone(leased.original())));
        }
    }

    /// Whether this attempt has passed a limit on its server.
    pub(crate) fn has_passed(&self, gate: &Arc<Gate>) -> bool {
        self.0.gates.has(gate)
    }

    /// The task's id.
    pub fn id(&self) -> &TaskId {
        &self.0.envelope.id
    }

    /// A value that is the same in every attempt, for systems that refuse to do the same work twice: the task's id, or
    /// for a [copy](crate::inspector::Inspector::enqueue_again) of a task, the id of the original. Such a copy does not
    /// repeat an effect that the original had.
    pub fn idempotency_key(&self) -> &TaskId {
        self.0.envelope.origin().unwrap_or(self.id())
    }

    /// The queue the task was leased from.
    pub fn queue(&self) -> &Name {
        &self.0.envelope.queue
    }

    /// The task's event.
    pub fn event(&self) -> &Name {
        &self.0.envelope.event
    }

    /// A reference to the task: its queue and id.
    pub fn task_ref(&self) -> TaskRef {
        self.0.envelope.task_ref()
    }

    /// The number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.0.envelope.attempts.saturating_add(1)
    }

    /// How often the task is retried before it is archived.
    pub fn max_retry(&self) -> u32 {
        self.0.envelope.options.max_retry
    }

    /// The key-value pairs that the producer attached to the task.
    pub fn headers(&self) -> &Headers {
        &self.0.envelope.headers
    }

    /// The task's group, if it has one.
    pub fn group(&self) -> Option<&Name> {
        self.0.envelope.options.group.as_ref()
    }

    /// The complete task: payload, options, headers and last failures.
    pub fn envelope(&self) -> &Arc<Envelope> {
        &self.0.envelope
    }

    /// The name of the server that runs it.
    pub fn worker(&self) -> &Name {
        &self.0.worker
    }

    /// When this attempt started, by the broker's clock.
    pub fn started(&self) -> Timestamp {
        self.0.started
    }

    /// How long the task was pending before this attempt, by the broker's clock; `None` if the broker does not record
    /// it.
    pub fn waited(&self) -> Option<Duration> {
        self.0.waited
    }

    /// When this attempt has to end: at its timeout or the task's deadline, whichever comes first.
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

    /// How much time this attempt has left.
    pub fn remaining(&self) -> Duration {
        self.0.end.at.saturating_duration_since(Instant::now())
    }

    /// Completes when the task is cancelled, its lease is lost, or the server shuts down.
    pub async fn cancelled(&self) {
        self.0.cancelled.cancelled().await;
    }

    /// Whether the task is cancelled, its lease is lost, or the server is shutting down.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.is_cancelled()
    }

    /// The token behind [`cancelled`](Self::cancelled), to pass to libraries.
    pub fn cancellation_token(&self) -> &CancellationToken {
        &self.0.cancelled
    }

    /// The server's shared value of type `T`. Prefer an argument of type [`State<T>`](crate::process::State), which is
    /// checked when the server is built.
    ///
    /// # Errors
    ///
    /// If the server has no such value. A handler that returns this error is retried without counting an attempt,
    /// because another server may have the value.
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<&T, MissingState> {
        self.0.provided.state.get()
    }

    pub(crate) fn server_state(&self) -> &ServerState {
        &self.0.provided.state
    }

    /// The broker that the task was leased from.
    pub fn broker(&self) -> &SharedBroker {
        &self.0.provided.broker
    }

    /// Requests a stop because the task is cancelled or its lease is lost.
    pub(crate) fn stop(&self) {
        self.0.stopped.store(true, SeqCst);
        self.0.cancelled.cancel();
    }

    /// Whether a stop was requested because the task is cancelled or its lease is lost.
    pub(crate) fn is_stopped(&self) -> bool {
        self.0.stopped.load(SeqCst)
    }

    /// Requests a stop because the server is shutting down.
    pub(crate) fn cut_off(&self) {
        self.0.cut_off.store(true, SeqCst);
        self.0.cancelled.cancel();
    }

    /// Whether the handler may have completed the task in a transaction.
    pub(crate) fn has_completion(&self) -> bool {
        self.0.completion.load(SeqCst)
    }

    /// Records that the slot was abandoned.
    pub(crate) fn abandon(&self) {
        self.0.abandoned.store(true, SeqCst);
    }

    /// Whether the slot was abandoned, so that the attempt's result no longer counts.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.abandoned.load(SeqCst)
    }

    /// Whether this error releases the task instead of failing it: the attempt was cut off by a shutdown, and the error
    /// requests a retry.
    pub(crate) fn releases(&self, error: &TaskError) -> bool {
        let is_retried = matches!(
            error.kind(),
            TaskErrorKind::Retry | TaskErrorKind::RetryAfter(_)
        );
        is_retried && self.0.cut_off.load(SeqCst)
    }

    /// Whether an error that will be retried counts as an attempt.
    pub(crate) fn is_failure(&self, error: &TaskError) -> bool {
        // The fault is in the set-up of this server. A server with the right set-up can run the task, for example after
        // the next deploy.
        error.failure_kind() != FailureKind::MissingState
            && self
                .state::<IsFailure>()
                .map_or(true, |is_failure| (is_failure.0)(error))
    }

    /// Reports that `done` units of `total` are done. Cheap: the server sends only the latest report, a few times a
    /// second. Observers see it in the task's [`progress`](crate::broker::TaskInfo::progress). The note is truncated to
    /// 4 KiB.
    pub fn progress(&self, done: u64, total: u64, note: impl Into<String>) {
        let mut note = note.into();
        cut(&mut note, Progress::MAX_NOTE);
        let mut report = self.0.report.lock();
        report.progress = Some(Progress { done, total, note });
        report.unsent = true;
    }

    /// Sets the task's result, for handlers whose output is `()`. It is encoded with the codec of the payload,
    /// MessagePack or JSON. Types with a human-readable form, such as `Uuid`, are written in that form.
    ///
    /// # Errors
    ///
    /// If the task's type has an output (which is its result), the handler has already returned, `value` cannot be
    /// encoded, the payload uses another codec, or the result is [too large](crate::server::ServerBuilder::max_result).
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

    /// The outcome of this attempt if it completes with this output, for a store that records it in a transaction of the
    /// handler. The handler then returns the same output.
    ///
    /// # Errors
    ///
    /// If the attempt has no lease because it does not run on a server, the output has another type than that of the
    /// task, it cannot be encoded, the payload uses a codec other than MessagePack and JSON, or the output is [too
    /// large](crate::server::ServerBuilder::max_result).
    pub fn completion<O: Serialize + DeserializeOwned + 'static>(
        &self,
        output: &O,
    ) -> Result<Settlement, CompletionError> {
        let (token, leased) = self.0.lease.clone().ok_or(CompletionError::NoLease)?;
        self.check_output(OutputType::of::<O>())?;
        self.0.completion.store(true, SeqCst);
        let result = match TypeId::of::<O>() == TypeId::of::<()>() {
            // `()` is not stored as a result, but another one may have been set.
            true => match &self.0.report.lock().result {
                Outcome::Set(encoded) => Some(encoded.clone()),
                _ => None,
            },
            false => {
                let encoded = self
                    .envelope()
                    .codec
                    .encode_checked::<_, MessagePack>(output);
                let encoded = encoded.map_err(CompletionError::Encode)?;
                self.check_result(&encoded)?;
                Some(encoded)
            }
        };
        let mut envelope = Arc::clone(self.envelope());
        if !envelope.options.retention.is_zero() {
            Arc::make_mut(&mut envelope).set_completed(Run {
                started: self.started(),
                ended: self.broker().now(),
                worker: self.worker().clone(),
            });
        }
        Ok(Settlement {
            leased,
            envelope,
            token,
            outcome: broker::Outcome::Complete {
                result: result.map(Bytes::from),
            },
            only_if_expired: false,
        })
    }

    /// Checks the type of an output. Callers of the task could not decode another one.
    fn check_output(&self, found: OutputType) -> Result<(), CompletionError> {
        match self.0.report.lock().output {
            Some(expected) if expected.id != found.id => Err(CompletionError::OtherOutput {
                event: self.event().clone(),
                expected: expected.name,
                found: found.name,
            }),
            _ => Ok(()),
        }
    }

    /// Checks the size of a result against the limit of this server.
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

    /// Records the output of the handler about to start. One other than `()` excludes any other result. A layer may run
    /// the handler again.
    pub(crate) fn start<O: 'static>(&self) {
        let has_output = TypeId::of::<O>() != TypeId::of::<()>();
        let report = &mut *self.0.report.lock();
        report.output = Some(OutputType::of::<O>());
        let result = &mut report.result;
        match (has_output, &*result) {
            (true, Outcome::Set(_)) => {
                tracing::warn!(task = %self.task_ref(), event = %self.event(),
                "a layer has set a result; the output of the handler replaces it")
            }
            (false, Outcome::Over) => *result = Outcome::Unset,
            _ => {}
        }
        if has_output {
            *result = Outcome::IsOutput;
        }
    }

    /// The latest progress, unless it was taken already.
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

    /// Takes the result that was set. None can be set from then on.
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
