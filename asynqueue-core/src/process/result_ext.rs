//! Choosing the outcome of an error where it is returned.

use std::time::Duration;

use super::{StdTaskError, TaskError, TaskErrorKind};

/// Chooses what happens to the task when a step of its handler fails, in the same line as the `?`. Otherwise an error
/// is retried with the task's backoff.
///
/// ```
/// use asynqueue_core::process::{Context, Payload, TaskError, TaskResultExt};
/// use std::time::Duration;
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "charge", crate = asynqueue_core)]
/// # struct Charge { card: String }
/// # #[derive(Debug, thiserror::Error)] #[error("refused")] struct BankError { is_final: bool }
/// # impl BankError { fn is_final(&self) -> bool { self.is_final } }
/// # async fn bank_is_open() -> std::io::Result<()> { Ok(()) }
/// # async fn pay(_: u64) -> Result<(), BankError> { Ok(()) }
///
/// async fn charge(task: Payload<Charge>) -> Result<(), TaskError> {
///     let card = task.card.parse().or_archive()?; // a retry would fail too
///     bank_is_open().await.or_retry_after(Duration::from_secs(60))?;
///     pay(card).await.or_archive_if(BankError::is_final)?; // otherwise retried with the backoff
///     Ok(())
/// }
/// # let _ = asynqueue_core::registry::ProcessWrapper::new(charge);
/// ```
///
/// It works in functions that return a [`TaskError`], a boxed error, `anyhow::Error` or `eyre::Report`. If two calls
/// choose an outcome for the same error, the later one counts.
pub trait TaskResultExt<T, E> {
    /// On an error, archives the task immediately, because another attempt would fail too.
    ///
    /// # Errors
    ///
    /// The error, requesting that outcome.
    fn or_archive(self) -> Result<T, StdTaskError>;

    /// On an error for which `is_permanent` returns true, archives the task immediately. Other errors are unchanged.
    ///
    /// # Errors
    ///
    /// The error, requesting that outcome.
    fn or_archive_if(self, is_permanent: impl FnOnce(&E) -> bool) -> Result<T, StdTaskError>;

    /// On an error, retries the task after `delay` instead of the backoff.
    ///
    /// # Errors
    ///
    /// The error, requesting that outcome.
    fn or_retry_after(self, delay: Duration) -> Result<T, StdTaskError>;
}

impl<T, E: Into<TaskError>> TaskResultExt<T, E> for Result<T, E> {
    fn or_archive(self) -> Result<T, StdTaskError> {
        self.or_archive_if(|_| true)
    }

    fn or_archive_if(self, is_permanent: impl FnOnce(&E) -> bool) -> Result<T, StdTaskError> {
        self.map_err(|error| {
            let is_permanent = is_permanent(&error);
            let error = error.into();
            match is_permanent {
                true => error.with_kind(TaskErrorKind::SkipRetry),
                false => error,
            }
            .into_std()
        })
    }

    fn or_retry_after(self, delay: Duration) -> Result<T, StdTaskError> {
        let kind = TaskErrorKind::RetryAfter(delay);
        self.map_err(|error| error.into().with_kind(kind).into_std())
    }
}
