//! What a handler can return other than its output.

use std::{error::Error, fmt, time::Duration};

use super::{MissingState, StdTaskError};
use crate::{error_text::with_causes, task::FailureKind};

type BoxError = Box<dyn Error + Send + Sync>;

/// Why a task did not complete, and what happens to it next.
///
/// Any error becomes one with `?`, and is retried by the task's backoff: each [`std::error::Error`], a boxed one,
/// `anyhow::Error`, `eyre::Report`, a `String` and a `&str`. [`TaskResultExt`](crate::TaskResultExt) decides otherwise
/// in the same line.
///
/// ```
/// use asynqueue_core::{TaskError, TaskResultExt};
/// use std::time::Duration;
///
/// fn charge(card: &str) -> Result<(), TaskError> {
///     let number: u64 = card.parse().or_archive()?; // archived at once
///     let _rates = std::fs::read("/dev/null")?; // retried
///     match number {
///         0 => Err("the bank does not answer".into()), // retried
///         1 => Err(TaskError::retry_after(Duration::from_secs(60), "the bank is busy")),
///         2 => Err(TaskError::skip_retry("no such card")), // archived at once
///         3 => Err(TaskError::snooze(Duration::from_secs(3600))), // later, and not counted as an attempt
///         4 => Err(TaskError::revoke()), // dropped
///         _ => Ok(()),
///     }
/// }
/// # assert!(charge("5").is_ok());
/// ```
///
/// As with `anyhow::Error`, that works because this type is not itself a [`std::error::Error`]. In a function that
/// returns another error type, such as a box or `anyhow::Error`, [`into_std`](Self::into_std) makes it one, and what it
/// asks for is kept on the way.
pub struct TaskError {
    kind: TaskErrorKind,
    failure: FailureKind,
    source: BoxError,
    backtrace: Option<String>,
}

/// Says whether an error counts as an attempt. In the state of servers that were told.
pub(crate) struct IsFailure(pub(crate) Box<dyn Fn(&TaskError) -> bool + Send + Sync>);

/// What a [`TaskError`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskErrorKind {
    /// Retry by the task's backoff; archive when no attempt is left.
    Retry,
    /// Retry after this long.
    RetryAfter(Duration),
    /// Archive at once.
    SkipRetry,
    /// Drop the task.
    Revoke,
    /// Run again after this long, without counting an attempt.
    Snooze(Duration),
}

impl TaskError {
    /// Retries by the task's backoff, as `?` does.
    pub fn retry(error: impl Into<BoxError>) -> Self {
        Self::new(TaskErrorKind::Retry, FailureKind::Error, error.into())
    }

    /// Retries after `delay` in place of the backoff's.
    pub fn retry_after(delay: Duration, error: impl Into<BoxError>) -> Self {
        Self::new(
            TaskErrorKind::RetryAfter(delay),
            FailureKind::Error,
            error.into(),
        )
    }

    /// Archives the task at once, since another attempt would fail too.
    pub fn skip_retry(error: impl Into<BoxError>) -> Self {
        Self::new(TaskErrorKind::SkipRetry, FailureKind::Error, error.into())
    }

    /// Drops the task: there is nothing left to do, and nothing to keep.
    pub fn revoke() -> Self {
        Self::new(
            TaskErrorKind::Revoke,
            FailureKind::Error,
            "revoked by its process".into(),
        )
    }

    /// Runs the task again after `delay`, without counting this as an attempt.
    pub fn snooze(delay: Duration) -> Self {
        Self::new(
            TaskErrorKind::Snooze(delay),
            FailureKind::Error,
            "snoozed by its process".into(),
        )
    }

    fn new(kind: TaskErrorKind, failure: FailureKind, source: BoxError) -> Self {
        Self {
            kind,
            failure,
            source,
            backtrace: None,
        }
    }

    /// An error of the framework's own, that is retried or not.
    pub(crate) fn of(
        kind: TaskErrorKind,
        failure: FailureKind,
        error: impl Into<BoxError>,
    ) -> Self {
        Self::new(kind, failure, error.into())
    }

    pub(crate) fn with_backtrace(mut self, backtrace: Option<String>) -> Self {
        self.backtrace = backtrace;
        self
    }

    /// What happens to the task.
    pub fn kind(&self) -> TaskErrorKind {
        self.kind
    }

    /// What ended the attempt.
    pub fn failure_kind(&self) -> FailureKind {
        self.failure
    }

    /// The error that the process returned.
    pub fn source(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.source
    }

    /// Where the process panicked, if it did.
    pub fn backtrace(&self) -> Option<&str> {
        self.backtrace.as_deref()
    }

    /// The error's text, then that of each cause.
    pub fn message(&self) -> String {
        with_causes(&*self.source)
    }

    /// A [`std::error::Error`] that asks for the same: for functions that return a box, `anyhow::Error` or the like.
    ///
    /// ```
    /// use asynqueue_core::{TaskError, TaskErrorKind, layer::BoxError};
    ///
    /// fn charge() -> Result<(), BoxError> {
    ///     Err(TaskError::skip_retry("no such card").into_std())?
    /// }
    /// let error = TaskError::from(charge().unwrap_err());
    /// assert_eq!(error.kind(), TaskErrorKind::SkipRetry);
    /// ```
    pub fn into_std(self) -> StdTaskError {
        StdTaskError::new(self)
    }

    /// The same error, with another request.
    pub(crate) fn with_kind(self, kind: TaskErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// A [`TaskError`] that went into the box comes out as it was. One that is somewhere below, as the cause of an error
    /// that adds context, decides for the whole.
    fn from_boxed(error: BoxError) -> Self {
        let error = match error.downcast::<StdTaskError>() {
            Ok(whole) => return whole.into_inner(),
            Err(other) => other,
        };
        let mut cause: Option<&(dyn Error + 'static)> = Some(&*error);
        while let Some(link) = cause {
            if let Some(marked) = StdTaskError::marked(link) {
                return Self {
                    kind: marked.kind,
                    failure: marked.failure,
                    backtrace: marked.backtrace.clone(),
                    source: error,
                };
            }
            if link.is::<MissingState>() {
                return Self::new(TaskErrorKind::Retry, FailureKind::MissingState, error);
            }
            cause = link.source();
        }
        Self::retry(error)
    }
}

/// Not `E: Error`, so that errors which are none, such as `anyhow::Error`, boxes and text, are taken too. This rules out
/// that a [`TaskError`] becomes a box by `?`: see [`TaskError::into_std`].
impl<E: Into<BoxError>> From<E> for TaskError {
    fn from(error: E) -> Self {
        Self::from_boxed(error.into())
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

/// The same text, since that is what a `main` or a test that returns the error prints.
impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_causes_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot send")]
        struct Outer(#[source] std::io::Error);
        let error = TaskError::from(Outer(std::io::Error::other("no route")));
        assert_eq!(error.message(), "cannot send: no route");
    }
}
