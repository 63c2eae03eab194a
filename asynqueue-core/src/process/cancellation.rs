//! Whether an attempt should stop.

use tokio_util::sync::CancellationToken;

use super::Context;

/// Whether the attempt should stop: the task is cancelled, its lease is lost, or the server is shutting down. An
/// argument for handlers that need nothing else of the [`Context`]. Cheap to clone.
///
/// ```
/// use asynqueue_core::process::{Cancellation, Payload, TaskError};
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "import", crate = asynqueue_core)]
/// # struct Import { rows: Vec<String> }
///
/// async fn import(task: Payload<Import>, cancellation: Cancellation) -> Result<(), TaskError> {
///     for row in &task.rows {
///         if cancellation.is_cancelled() {
///             return Err(TaskError::retry("interrupted"));
///         }
///         println!("{row}");
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Cancellation(CancellationToken);

impl Cancellation {
    pub(super) fn new(ctx: &Context) -> Self {
        Self(ctx.cancellation_token().clone())
    }

    /// Completes when the attempt should stop.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// Whether the attempt should stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// The underlying token, to pass to libraries.
    pub fn token(&self) -> &CancellationToken {
        &self.0
    }
}
