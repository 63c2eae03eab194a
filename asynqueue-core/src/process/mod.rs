//! What users write: processes, what they are handed and what they return.

mod context;
mod error;
mod function;
mod payload;
mod state;

use async_trait::async_trait;

pub(crate) use self::{context::AttemptEnd, error::IsFailure};
pub use self::{
    context::{Context, Progress},
    error::{OnDecodeError, TaskError, TaskErrorKind},
    payload::Payload,
    state::{FromState, MissingState, State},
};
use crate::task::Task;

/// Handles the tasks of one type.
///
/// ```
/// use asynqueue_core::{Context, Payload, Process, Task, TaskError};
/// use async_trait::async_trait;
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "email:welcome", crate = asynqueue_core)]
/// # struct WelcomeEmail { user_id: u64 }
///
/// struct SendWelcome;
///
/// #[async_trait]
/// impl Process<WelcomeEmail> for SendWelcome {
///     async fn handle(&self, task: Payload<WelcomeEmail>, ctx: &Context) -> Result<(), TaskError> {
///         println!("attempt {} for user {}", ctx.attempt(), task.user_id);
///         Ok(())
///     }
/// }
/// ```
///
/// An `async fn(Payload<T>, Context) -> Result<T::Output, E>` is a process too, for any error `E` that becomes a
/// [`TaskError`]:
///
/// ```
/// # use asynqueue_core::{Context, Payload, ProcessWrapper};
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "email:welcome", crate = asynqueue_core)]
/// # struct WelcomeEmail { user_id: u64 }
/// async fn send_welcome(task: Payload<WelcomeEmail>, _ctx: Context) -> std::io::Result<()> {
///     println!("welcome, user {}", task.user_id);
///     Ok(())
/// }
///
/// let process = ProcessWrapper::new(send_welcome);
/// assert_eq!(process.event(), "email:welcome");
/// ```
///
/// Delivery is at least once: a worker can die after the work and before it is recorded, and then the task runs again.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a process for `{T}`",
    label = "does not handle `{T}`",
    note = "implement `Process<{T}>` for it, or pass an `async fn(Payload<{T}>, Context) -> Result<Output, Error>` \
            whose `Output` is `<{T} as Task>::Output` and whose `Error` becomes a `TaskError`"
)]
#[async_trait]
pub trait Process<T: Task>: Send + Sync + 'static {
    /// The event whose tasks this handles. By default the payload's own.
    fn event_name(&self) -> &str {
        T::EVENT
    }

    /// Does the work of one task.
    ///
    /// Dropped at the next `await` when the task's timeout or deadline has passed; [`Context::cancelled`] tells
    /// beforehand when it is cancelled or the server shuts down.
    ///
    /// # Errors
    ///
    /// Any error is retried by the task's backoff; [`TaskError`] has constructors for other outcomes.
    async fn handle(&self, task: Payload<T>, ctx: &Context) -> Result<T::Output, TaskError>;
}
