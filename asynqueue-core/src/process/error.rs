//! The error of a handler, which decides what happens to its task.

use std::{error::Error, fmt, time::Duration};

use super::{MissingState, StdTaskError};
use crate::{error_text::with_causes, task::FailureKind};

type BoxError = Box<dyn Error + Send + Sync>;

/// Why a task did not complete, and what happens to it next.
///
/// Any error converts into one with `?`, and is then retried with the task's backoff: every [`std::error::Error`], a
/// boxed one, `anyhow::Error`, `eyre::Report`, a `String` and a `&str`.
/// [`TaskResultExt`](crate::process::TaskResultExt) chooses another outcome in the same line.
///
/// ```
/// use asynqueue_core::process::{TaskError, TaskResultExt};
/// use std::time::Duration;
///
/// fn charge(card: &str) -> Result<(), TaskError> {
///     let number: u64 = card.parse().or_archive()?; // archived immediately
///     let _rates = std::fs::read("/dev/null")?; // retried
///     match number {
///         0 => Err("the bank is not responding".into()), // retried
///         1 => Err(TaskError::retry_after(Duration::from_secs(60), "the bank is busy")),
///         2 => Err(TaskError::skip_retry("no such card")), // archived immediately
///         3 => Err(TaskError::snooze(Duration::from_secs(3600))), // run again later, without counting an attempt
///         4 => Err(TaskError::revoke()), // dropped
///         _ => Ok(()),
///     }
/// }
/// # assert!(charge("5").is_ok());
/// ```
///
/// Like `anyhow::Error`, this type does not implement [`std::error::Error`] itself, which makes these conversions
/// possible. To return one from a function with another error type, such as a boxed error or `anyhow::Error`, convert
/// it with [`into_std`](Self::into_std). The requested outcome is preserved.
pub struct TaskError {
    kind: TaskErrorKind,
    failure: FailureKind,
    source: BoxError,
    backtrace: Option<String>,
}

/// What happens to a task whose payload cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDecodeError {
    /// The attempt fails like any other, and the task is retried with its backoff.
    #[default]
    Retry,
    /// The task is archived immediately.
    Archive,
}

/// Whether an error counts as an attempt. Stored in the state of servers that set it.
pub(crate) struct IsFailure(pub(crate) Box<dyn Fn(&TaskError) -> bool + Send + Sync>);

/// The outcome that a [`TaskError`] requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskErrorKind {
    /// Retry with the task's backoff; archive if no attempt is left.
    Retry,
    /// Retry after this delay instead of the backoff.
    RetryAfter(Duration),
    /// Archive immediately.
    SkipRetry,
    /// Drop the task.
    Revoke,
    /// Run again after this long, without counting an attempt.
    Snooze(Duration),
}

impl TaskError {
    /// Retries with the task's backoff, as `?` does.
    pub fn retry(error: impl Into<BoxError>) -> Self {
        Self::new(TaskErrorKind::Retry, FailureKind::Error, error.into())
    }

    /// Retries after `delay` instead of the backoff.
    pub fn retry_after(delay: Duration, error: impl Into<BoxError>) -> Self {
        Self::new(
            TaskErrorKind::RetryAfter(delay),
            FailureKind::Error,
            error.into(),
        )
    }

    /// Archives the task immediately, because another attempt would fail too.
    pub fn skip_retry(error: impl Into<BoxError>) -> Self {
        Self::new(TaskErrorKind::SkipRetry, FailureKind::Error, error.into())
    }

    /// Drops the task, because there is nothing left to do and nothing to keep.
    pub fn revoke() -> Self {
        Self::new(
            TaskErrorKind::Revoke,
            FailureKind::Error,
            "revoked by its handler".into(),
        )
    }

    /// Runs the task again after `delay`, without counting an attempt.
    pub fn snooze(delay: Duration) -> Self {
        Self::new(
            TaskErrorKind::Snooze(delay),
            FailureKind::Error,
            "snoozed by its handler".into(),
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

    /// An error of the framework itself.
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

    /// The requested outcome for the task.
    pub fn kind(&self) -> TaskErrorKind {
        self.kind
    }

    /// What kind of failure ended the attempt.
    pub fn failure_kind(&self) -> FailureKind {
        self.failure
    }

    /// The error that the handler returned.
    pub fn source(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.source
    }

    /// Where the handler panicked, if it did.
    pub fn backtrace(&self) -> Option<&str> {
        self.backtrace.as_deref()
    }

    /// The text of the error, followed by the text of each cause.
    pub fn message(&self) -> String {
        with_causes(&*self.source)
    }

    /// Converts this into a [`std::error::Error`] that requests the same outcome, for functions that return a boxed
    /// error, `anyhow::Error` or similar.
    ///
    /// ```
    /// use asynqueue_core::{layer::BoxError, process::{TaskError, TaskErrorKind}};
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

    /// The same error with another requested outcome.
    pub(crate) fn with_kind(self, kind: TaskErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// Unwraps a boxed [`TaskError`]. If one is among the causes, because context was added to it, the complete error
    /// takes its outcome.
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
            if MissingState::is(link) {
                return Self::new(TaskErrorKind::Retry, FailureKind::MissingState, error);
            }
            cause = link.source();
        }
        Self::retry(error)
    }
}

/// The bound is not `E: Error`, so that `anyhow::Error`, boxed errors and strings are accepted, which do not implement
/// it. The price is that `?` cannot box a [`TaskError`]: see [`TaskError::into_std`].
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

/// The same text as `Display`, because a `main` or a test that returns the error prints it.
impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::TaskResultExt;

    #[derive(thiserror::Error)]
    #[error("refused by the bank")]
    struct BankError {
        is_final: bool,
        #[source]
        cause: std::io::Error,
    }

    crate::debug_as_text!(BankError);

    fn pay(is_final: bool) -> Result<(), BankError> {
        let cause = std::io::Error::other("no funds");
        Err(BankError { is_final, cause })
    }

    const SOON: Duration = Duration::from_secs(7);

    fn kind_and_text(result: Result<(), impl Into<TaskError>>) -> (TaskErrorKind, String) {
        let error: TaskError = result.expect_err("an error").into();
        (error.kind(), error.message())
    }

    #[test]
    fn any_error_becomes_a_task_error_with_the_question_mark() {
        fn into_task_error<E>(error: E) -> TaskError
        where
            TaskError: From<E>,
        {
            let result: Result<(), TaskError> = (|| Err(error)?)();
            result.expect_err("an error")
        }
        let lost = || std::io::Error::other("lost");
        for error in [
            into_task_error(lost()),
            into_task_error(BoxError::from(lost())),
            into_task_error(Box::new(lost())),
            into_task_error(anyhow::Error::from(lost())),
            into_task_error(anyhow::anyhow!("lost")),
            into_task_error(eyre::Report::from(lost())),
            into_task_error(eyre::eyre!("lost")),
            into_task_error("lost".to_owned()),
            into_task_error("lost"),
            into_task_error(std::borrow::Cow::Borrowed("lost")),
            into_task_error(TaskError::retry("lost")),
        ] {
            assert_eq!(
                (error.kind(), error.failure_kind(), error.message().as_str()),
                (TaskErrorKind::Retry, FailureKind::Error, "lost")
            );
        }
    }

    #[test]
    fn a_task_error_keeps_its_kind_through_other_error_types() {
        use anyhow::Context as _;
        use eyre::WrapErr as _;
        fn boxed(error: TaskError) -> Result<(), BoxError> {
            Err(error.into_std())?
        }
        fn by_anyhow(error: TaskError) -> anyhow::Result<()> {
            Err(error.into_std())?
        }
        fn by_eyre(error: TaskError) -> eyre::Result<()> {
            Err(error.into_std())?
        }
        for (make, kind) in [
            (TaskError::revoke as fn() -> _, TaskErrorKind::Revoke),
            (|| TaskError::snooze(SOON), TaskErrorKind::Snooze(SOON)),
            (|| TaskError::skip_retry("no"), TaskErrorKind::SkipRetry),
            (
                || TaskError::retry_after(SOON, "busy"),
                TaskErrorKind::RetryAfter(SOON),
            ),
        ] {
            let text = make().message();
            let whole = (kind, text.clone());
            assert_eq!(kind_and_text(boxed(make())), whole);
            assert_eq!(kind_and_text(by_anyhow(make())), whole);
            assert_eq!(kind_and_text(by_eyre(make())), whole);
            let within = (kind, format!("at the bank: {text}"));
            assert_eq!(
                kind_and_text(by_anyhow(make()).context("at the bank")),
                within
            );
            assert_eq!(
                kind_and_text(by_eyre(make()).wrap_err("at the bank")),
                within
            );
            let twice = by_anyhow(make()).context("at the bank").context("today");
            assert_eq!(kind_and_text(twice), (kind, format!("today: {}", within.1)));
        }
    }

    #[test]
    fn the_kind_of_failure_is_kept_through_other_error_types() {
        let panic = || {
            TaskError::of(TaskErrorKind::Retry, FailureKind::Panic, "boom")
                .with_backtrace(Some("here".into()))
        };
        let whole = TaskError::from(BoxError::from(panic().into_std()));
        let within = TaskError::from(anyhow::Error::from(panic().into_std()).context("outside"));
        for error in [whole, within] {
            assert_eq!(error.failure_kind(), FailureKind::Panic);
            assert_eq!(error.backtrace(), Some("here"));
        }
    }

    #[test]
    fn an_error_decides_the_outcome_in_its_line() {
        let text = "refused by the bank: no funds".to_owned();
        let archived = || -> Result<(), TaskError> { Ok(pay(true).or_archive()?) };
        assert_eq!(
            kind_and_text(archived()),
            (TaskErrorKind::SkipRetry, text.clone())
        );
        let later = || -> anyhow::Result<()> { Ok(pay(true).or_retry_after(SOON)?) };
        assert_eq!(
            kind_and_text(later()),
            (TaskErrorKind::RetryAfter(SOON), text.clone())
        );
        let depends = |is_final| -> Result<(), BoxError> {
            Ok(pay(is_final).or_archive_if(|error| error.is_final)?)
        };
        assert_eq!(
            kind_and_text(depends(true)),
            (TaskErrorKind::SkipRetry, text.clone())
        );
        assert_eq!(kind_and_text(depends(false)), (TaskErrorKind::Retry, text));
        let by_anyhow = anyhow::Context::context(pay(true), "at the bank").or_archive();
        assert_eq!(kind_and_text(by_anyhow).0, TaskErrorKind::SkipRetry);
        assert!(Ok::<_, BankError>(1).or_archive().is_ok());
    }

    #[test]
    fn of_two_decisions_about_one_error_the_later_one_counts() {
        let inner = || pay(true).or_archive();
        let outer = inner().or_retry_after(SOON);
        assert_eq!(kind_and_text(outer).0, TaskErrorKind::RetryAfter(SOON));
        let unchanged = inner().or_archive_if(|_| false);
        assert_eq!(kind_and_text(unchanged).0, TaskErrorKind::SkipRetry);
        let wrapped = anyhow::Context::context(inner(), "later").or_retry_after(SOON);
        assert_eq!(kind_and_text(wrapped).0, TaskErrorKind::RetryAfter(SOON));
    }

    #[test]
    fn a_task_error_prints_the_same_text_for_users_and_for_mains() {
        let error = TaskError::from(pay(true).expect_err("refused"));
        let text = "refused by the bank: no funds";
        assert_eq!(
            (error.to_string(), format!("{error:?}")),
            (text.into(), text.into())
        );
        let error = error.into_std();
        assert_eq!(format!("{error:?}"), text);
        assert_eq!(
            format!("{:#}", anyhow::Error::from(error).context("x"))
                .matches("x: ")
                .count(),
            1
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
