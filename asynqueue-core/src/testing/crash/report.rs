//! The report of a crash test.

use std::{
    fmt::{self, Display},
    panic::Location,
};

use crate::{
    broker::BrokerError, debug_as_text, process::MissingState, producer::EnqueueError, task::Name,
};

/// The summary of a successful crash test: the result was the same in each run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrashSummary {
    /// The number of awaits of the undisturbed run at which the handler was dropped and paused. Zero means that no
    /// await ever waited: only a lost outcome was tried.
    pub crash_points: usize,
    /// How often the task was run from start to end.
    pub runs: usize,
}

/// Where and how a run was disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Crash {
    /// The kind of crash.
    pub kind: CrashKind,
    /// The disturbed attempt, from 1.
    pub attempt: u32,
    /// The await at which it happened, from 1. The last one for a lost outcome.
    pub at: usize,
    /// How many awaits this attempt has in an undisturbed run.
    pub of: usize,
    /// The call of [`crash_point`](super::crash_point), if the await is one.
    pub place: Option<&'static Location<'static>>,
}

/// A kind of crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CrashKind {
    /// The attempt was dropped at an await, and the task was redelivered, as after a lost worker.
    Dropped,
    /// The attempt ran to its end, and the task was redelivered: its worker was lost before the outcome was recorded.
    OutcomeLost,
    /// The attempt paused at an await, another one ran to its end, then the first one resumed: its worker was cut off
    /// for longer than its lease.
    LateDuplicate,
}

impl Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (attempt, at, of) = (self.attempt, self.at, self.of);
        let place = self.place.map(|place| format!(", {place}"));
        let place = place.unwrap_or_default();
        match self.kind {
            CrashKind::Dropped => write!(
                f,
                "attempt {attempt} was dropped at await {at} of {of}{place}, and the task was redelivered"
            ),
            CrashKind::OutcomeLost => write!(
                f,
                "attempt {attempt} ran to its end, its outcome was lost, and the task was redelivered"
            ),
            CrashKind::LateDuplicate => write!(
                f,
                "attempt {attempt} paused at await {at} of {of}{place}, the task was redelivered and finished, then \
                 attempt {attempt} resumed"
            ),
        }
    }
}

/// A crash whose result differs from that of an undisturbed run: the handler is not idempotent.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrashFinding {
    /// The event of the task.
    pub event: Name,
    /// Where and how the run was disturbed.
    pub crash: Crash,
    /// Each attempt of the run, and how it ended.
    pub attempts: Vec<String>,
    /// The differences from an undisturbed run.
    pub differences: Vec<Difference>,
}

/// A difference from the expected result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// What differs: `world`, `enqueued tasks` or `outcome`.
    pub what: &'static str,
    /// The value after an undisturbed run.
    pub expected: String,
    /// The value after the disturbed run.
    pub found: String,
}

impl Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indented = |text: &str| text.replace('\n', "\n              ");
        write!(f, "\n  {}", self.what)?;
        write!(f, "\n    expected: {}", indented(&self.expected))?;
        write!(f, "\n    found:    {}", indented(&self.found))
    }
}

impl Display for CrashFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the handler of `{}` is not idempotent", self.event)?;
        write!(f, "\n  crash:    {}", self.crash)?;
        write!(f, "\n  attempts: {}", self.attempts.join("\n            "))?;
        for difference in &self.differences {
            difference.fmt(f)?;
        }
        f.write_str(
            "\n  Give each effect a key that is the same in all attempts, such as the task's id, and make the target \
             of the effect refuse duplicates.",
        )
    }
}

impl std::error::Error for CrashFinding {}

/// Why a crash test failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CrashError {
    /// The handler is not idempotent.
    #[error(transparent)]
    Found(Box<CrashFinding>),
    /// Undisturbed runs differ from one another, so they cannot be compared with disturbed ones.
    #[error(
        "two undisturbed runs of `{event}` differ:{}\n  Make `with_state` create the same world each time, without \
         clocks or random numbers, and leave expected differences out of `check`.",
        lines(differences)
    )]
    Unsteady {
        /// The event of the task.
        event: Name,
        /// The differences between the two runs.
        differences: Vec<Difference>,
    },
    /// The undisturbed run did not complete its task.
    #[error(
        "`{event}` did not complete in an undisturbed run: it was {outcome}\n  attempts: {}\n  Set up the test so that \
         it completes, or add `.may_fail()` if the failure is expected.",
        attempts.join("\n            ")
    )]
    NotCompleted {
        /// The event of the task.
        event: Name,
        /// How it ended instead.
        outcome: String,
        /// Each attempt, and how it ended.
        attempts: Vec<String>,
    },
    /// A run has too many awaits or attempts.
    #[error(
        "`{event}` did not end: {found}{}; the limit is {limit}. Make the handler return, or raise the limit with \
         `.max_awaits(…)`.",
        crash.map_or_else(String::new, |crash| format!(" in a run in which {crash}"))
    )]
    Endless {
        /// The event of the task.
        event: Name,
        /// What was too many.
        found: String,
        /// The limit.
        limit: usize,
        /// How the run was disturbed, if it was.
        crash: Option<Crash>,
    },
    /// The task cannot run again after a lost worker, so there is nothing to test.
    #[error(
        "`{event}` has a `max_retry` of 0: after a crash it is archived and does not run again. Set it to at least 1, \
         in `#[task(max_retry = …)]` or with `.enqueued_with(|call| call.max_retry(1))`."
    )]
    NeverRetried {
        /// The event of the task.
        event: Name,
    },
    /// The handler requires a state that the test does not have.
    #[error("the test has {0}")]
    MissingState(#[from] MissingState),
    /// The task or its options are invalid.
    #[error(transparent)]
    Enqueue(Box<EnqueueError>),
    /// A call of the memory broker failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

debug_as_text!(CrashFinding, CrashError);

impl From<EnqueueError> for CrashError {
    fn from(error: EnqueueError) -> Self {
        Self::Enqueue(Box::new(error))
    }
}

fn lines(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect()
}
