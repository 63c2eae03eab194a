//! What a crash test reports.

use std::{
    fmt::{self, Display},
    panic::Location,
};

use crate::{
    broker::BrokerError, debug_as_text, process::MissingState, producer::EnqueueError, task::Name,
};

/// A handler that came to the same end in each run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrashSummary {
    /// The awaits of the undisturbed run at which the handler was dropped, and at which it was paused. Zero means that all its
    /// awaits were ready at once: only a lost outcome was tried.
    pub crash_points: usize,
    /// How often the task was run from its start to its end.
    pub runs: usize,
}

/// Where a run was disturbed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Crash {
    /// How.
    pub kind: CrashKind,
    /// The attempt that it concerned, from 1.
    pub attempt: u32,
    /// The await at which that happened, from 1. For a lost outcome it is the last.
    pub at: usize,
    /// How many awaits this attempt has in an undisturbed run.
    pub of: usize,
    /// Where [`crash_point`](super::crash_point) was called, if it is one.
    pub place: Option<&'static Location<'static>>,
}

/// A kind of crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CrashKind {
    /// The attempt was dropped at an await and the task redelivered, as after its worker was lost.
    Dropped,
    /// The attempt ran to its end and the task was redelivered: its worker was lost before the outcome was recorded.
    OutcomeLost,
    /// The attempt paused at an await, another ran to its end, then the first one resumed: its worker was cut off for longer
    /// than its lease.
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
                "attempt {attempt} was dropped at await {at} of {of}{place}, and the task redelivered"
            ),
            CrashKind::OutcomeLost => write!(
                f,
                "attempt {attempt} ran to its end, its outcome was lost, and the task redelivered"
            ),
            CrashKind::LateDuplicate => write!(
                f,
                "attempt {attempt} paused at await {at} of {of}{place}, the task was redelivered and came to its end, then \
                 attempt {attempt} resumed"
            ),
        }
    }
}

/// A crash after which something is not as after an undisturbed run: the handler is not idempotent.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrashFinding {
    /// The event of the task.
    pub event: Name,
    /// The crash.
    pub crash: Crash,
    /// Each attempt of the run, and how it ended.
    pub attempts: Vec<String>,
    /// What differs from an undisturbed run.
    pub differences: Vec<Difference>,
}

/// Something that was not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// What: `world`, `enqueued tasks` or `outcome`.
    pub what: &'static str,
    /// How it is after an undisturbed run.
    pub expected: String,
    /// How it was found.
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
            "\n  Give each effect a key that is the same in all attempts, such as the task's id, and let what keeps the effect \
             refuse a second one.",
        )
    }
}

impl std::error::Error for CrashFinding {}

/// Why a crash test did not succeed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CrashError {
    /// The handler is not idempotent.
    #[error(transparent)]
    Found(Box<CrashFinding>),
    /// Undisturbed runs differ from one another, so that nothing can be said of disturbed ones.
    #[error(
        "two undisturbed runs of `{event}` differ:{}\n  Let `with_state` make the same world each time, without clocks or random \
         numbers, and leave out of `check` what differs by right.",
        lines(differences)
    )]
    Unsteady {
        /// The event of the task.
        event: Name,
        /// What differs between the two.
        differences: Vec<Difference>,
    },
    /// The undisturbed run did not complete its task.
    #[error(
        "`{event}` did not complete in an undisturbed run, it was {outcome}\n  attempts: {}\n  Set the test up so that it completes, \
         or add `.may_fail()` where this is what is tested.",
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
    /// A run takes too many awaits or attempts.
    #[error(
        "`{event}` did not end: {found}{}, and the limit is {limit}. Let the handler return, or raise the limit by \
         `.max_awaits(…)`.",
        crash.map_or_else(String::new, |crash| format!(" in a run in which {crash}"))
    )]
    Endless {
        /// The event of the task.
        event: Name,
        /// What there were too many of.
        found: String,
        /// The limit.
        limit: usize,
        /// How the run was disturbed, if it was.
        crash: Option<Crash>,
    },
    /// A lost worker leaves no second attempt, so that there is nothing to test.
    #[error(
        "`{event}` has a `max_retry` of 0: after a crash it is archived and does not run again. Set one of at least 1, in \
         `#[task(max_retry = …)]` or by `.enqueued_with(|call| call.max_retry(1))`."
    )]
    NeverRetried {
        /// The event of the task.
        event: Name,
    },
    /// The handler takes a shared value that the test does not have.
    #[error("the test has {0}")]
    MissingState(#[from] MissingState),
    /// The task cannot be enqueued as it was given.
    #[error(transparent)]
    Enqueue(Box<EnqueueError>),
    /// The broker in memory did not answer.
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
