//! What a process can answer other than its output.

use std::{error::Error, fmt, time::Duration};

use crate::task::FailureKind;

type BoxError = Box<dyn Error + Send + Sync>;

/// Why a task did not complete, and what happens to it next.
///
/// Any error becomes one with `?`, and is retried by the task's backoff. As with `anyhow::Error`, that works because
/// this type is not itself a [`std::error::Error`].
///
/// ```
/// use asynqueue_core::TaskError;
/// use std::time::Duration;
///
/// fn charge(card: &str) -> Result<(), TaskError> {
///     let number: u64 = card.parse()?; // retried
///     match number {
///         0 => Err(TaskError::skip_retry("no such card")), // archived at once
///         1 => Err(TaskError::retry_after(Duration::from_secs(60), "the bank is busy")),
///         2 => Err(TaskError::snooze(Duration::from_secs(3600))), // later, and not counted as an attempt
///         3 => Err(TaskError::revoke()), // dropped
///         _ => Ok(()),
///     }
/// }
/// # assert!(charge("4").is_ok());
/// ```
pub struct TaskError {
    kind: TaskErrorKind,
    failure: FailureKind,
    source: BoxError,
    backtrace: Option<String>,
}

/// What happens to a task whose payload cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDecodeError {
    /// It has failed like any other, and is retried by its backoff.
    #[default]
    Retry,
    /// It is archived at once.
    Archive,
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
    /// Retries by the task's backoff. For errors that `?` does not take, such as text.
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
        let mut message = self.source.to_string();
        let mut cause = self.source.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Many errors repeat their cause in their own text.
            if !message.ends_with(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = error.source();
        }
        message
    }

    /// The way back from [`BoxError`], which layers of other crates return.
    pub(crate) fn from_boxed(error: BoxError) -> Self {
        match error.downcast::<Boxed>() {
            Ok(boxed) => boxed.0,
            Err(other) => Self::retry(other),
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for TaskError {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}

/// So that layers which box their errors, as many of tower's do, fit around a process.
impl From<TaskError> for BoxError {
    fn from(error: TaskError) -> Self {
        Box::new(Boxed(error))
    }
}

/// A [`TaskError`] as a [`std::error::Error`].
struct Boxed(TaskError);

impl Error for Boxed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0.source)
    }
}

impl fmt::Display for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskError")
            .field("kind", &self.kind)
            .field("failure", &self.failure)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_error_survives_being_boxed_by_a_foreign_layer() {
        let boxed: BoxError = TaskError::skip_retry("no").into();
        let error = TaskError::from_boxed(boxed);
        assert_eq!(error.kind(), TaskErrorKind::SkipRetry);
        assert_eq!(error.message(), "no");
        let foreign = TaskError::from_boxed(std::io::Error::other("lost").into());
        assert_eq!(
            (foreign.kind(), foreign.message().as_str()),
            (TaskErrorKind::Retry, "lost")
        );
    }

    #[test]
    fn the_message_names_the_causes_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot send")]
        struct Outer(#[source] std::io::Error);
        let error = TaskError::from(Outer(std::io::Error::other("no route")));
        assert_eq!(error.message(), "cannot send: no route");
    }
}
