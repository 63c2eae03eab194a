//! The failures that are kept with a task.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Name, Timestamp};

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// When the attempt started. `None` if it did not start, or if this is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When the attempt ended.
    pub at: Timestamp,
    /// The cause of the failure.
    pub kind: FailureKind,
    /// The error message, with its causes. Truncated to [`Failure::MAX_MESSAGE`] bytes.
    pub message: String,
    /// The backtrace of a panic. Truncated to [`Failure::MAX_BACKTRACE`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backtrace: Option<String>,
    /// The worker that ran it, if any did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Name>,
}

impl Failure {
    /// How many failures are kept with a task. Older ones are dropped.
    pub const KEPT: usize = 10;
    /// The maximum length of a message in bytes.
    pub const MAX_MESSAGE: usize = 4 * 1024;
    /// The maximum length of a backtrace in bytes.
    pub const MAX_BACKTRACE: usize = 16 * 1024;

    /// The failure of attempt `attempt` (from 1), which ended at `at`, without start, backtrace and worker.
    pub fn new(attempt: u32, at: Timestamp, kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            attempt,
            started: None,
            at,
            kind,
            message: message.into(),
            backtrace: None,
            worker: None,
        }
    }

    /// Whether a worker had the task. `false` if it was archived by a request.
    pub fn is_attempt(&self) -> bool {
        self.worker.is_some() || self.kind == FailureKind::LeaseExpired
    }

    /// Whether a worker leased the task but did not start it.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.kind, FailureKind::Expired | FailureKind::UnknownEvent)
    }

    /// Truncates fields that are too long.
    pub(crate) fn bounded(mut self) -> Self {
        cut(&mut self.message, Self::MAX_MESSAGE);
        if let Some(backtrace) = &mut self.backtrace {
            cut(backtrace, Self::MAX_BACKTRACE);
        }
        self
    }
}

/// Truncates a text to `max` bytes.
pub(crate) fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        let end = (0..=max).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
        text.push('…');
    }
}

/// Why an attempt failed, or why a task was not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The handler returned an error.
    Error,
    /// The handler panicked.
    Panic,
    /// The attempt took longer than the task's timeout.
    Timeout,
    /// The task's deadline passed, before or during the attempt.
    Deadline,
    /// The task did not start before it expired.
    Expired,
    /// The worker disappeared and its lease expired.
    LeaseExpired,
    /// The payload does not match the handler's type.
    Decode,
    /// No handler is registered for the event.
    UnknownEvent,
    /// The handler requires state that the server does not have.
    MissingState,
    /// The task was cancelled on request.
    Cancelled,
    /// The task was archived on request, to run later or never.
    Shelved,
    /// A kind from a later version.
    #[serde(other)]
    Other,
}

impl FailureKind {
    /// The kind as text, in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Panic => "panic",
            Self::Timeout => "timeout",
            Self::Deadline => "deadline",
            Self::Expired => "expired",
            Self::LeaseExpired => "lease expired",
            Self::Decode => "decode",
            Self::UnknownEvent => "unknown event",
            Self::MissingState => "missing state",
            Self::Cancelled => "cancelled",
            Self::Shelved => "shelved",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
