//! What is kept of an attempt that failed.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Name, Timestamp};

/// One failed attempt, as kept with its task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// When the attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When the attempt ended.
    pub at: Timestamp,
    /// What ended it.
    pub kind: FailureKind,
    /// The error's text, with its causes. Cut to [`Failure::MAX_MESSAGE`] bytes.
    pub message: String,
    /// Where it panicked. Cut to [`Failure::MAX_BACKTRACE`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backtrace: Option<String>,
    /// The worker that ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Name>,
}

impl Failure {
    /// How many failures are kept with a task; the oldest go first.
    pub const KEPT: usize = 10;
    /// Bytes kept of a message.
    pub const MAX_MESSAGE: usize = 4 * 1024;
    /// Bytes kept of a backtrace.
    pub const MAX_BACKTRACE: usize = 16 * 1024;

    /// Why attempt `attempt`, counted from 1, ended at this time; without a start, a backtrace and a worker.
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

    /// Whether the task was run, and not just put away.
    pub fn is_attempt(&self) -> bool {
        self.worker.is_some() || self.kind == FailureKind::LeaseExpired
    }

    /// Whether a worker had the task and did not begin it.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.kind, FailureKind::Expired | FailureKind::UnknownEvent)
    }

    /// Cuts what is too long to be kept.
    pub(crate) fn bounded(mut self) -> Self {
        cut(&mut self.message, Self::MAX_MESSAGE);
        if let Some(backtrace) = &mut self.backtrace {
            cut(backtrace, Self::MAX_BACKTRACE);
        }
        self
    }
}

/// Cuts a text that is longer than `max` bytes.
pub(crate) fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        let end = (0..=max).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
        text.push('…');
    }
}

/// What ended an attempt, or kept a task from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The process returned an error.
    Error,
    /// The process panicked.
    Panic,
    /// The attempt took longer than the task's timeout.
    Timeout,
    /// The task's deadline passed, while it ran or before it started.
    Deadline,
    /// Its time to be started was over.
    Expired,
    /// The worker vanished and its lease ran out.
    LeaseExpired,
    /// The payload is not what the process expects.
    Decode,
    /// No process is registered for the event.
    UnknownEvent,
    /// The server has no shared value of a type that the process needs.
    MissingState,
    /// Someone cancelled it.
    Cancelled,
    /// Someone put it away, to be run later or not at all.
    Shelved,
    /// A kind that a newer version wrote.
    #[serde(other)]
    Other,
}

impl FailureKind {
    /// The kind in words.
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
