//! Handlers: the code that users write, the arguments it receives and the errors it returns.

mod arguments;
mod blocking;
mod cancellation;
#[doc(hidden)]
pub mod checked;
mod context;
mod error;
mod from_task;
mod function;
mod missing_state;
mod payload;
mod result;
mod result_ext;
mod state;
mod std_error;

use std::future::Future;

pub(crate) use self::{
    blocking::Bounds,
    context::{AttemptEnd, Provided},
    error::IsFailure,
    missing_state::LogMissingState,
    result::MaxResult,
};
pub use self::{
    cancellation::Cancellation,
    context::{Context, Progress},
    error::{OnDecodeError, TaskError, TaskErrorKind},
    from_task::FromTask,
    payload::Payload,
    result::{CompletionError, DEFAULT_MAX_RESULT, ResultTooLarge, SetResultError},
    result_ext::TaskResultExt,
    state::{FromState, MissingState, ServerState, State},
    std_error::StdTaskError,
};
use crate::task::Task;

/// Handles the tasks of one type.
///
/// ```
/// use asynqueue_core::{process::{Context, Payload, Process, TaskError}, task::Task};
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "email:welcome", crate = asynqueue_core)]
/// # struct WelcomeEmail { user_id: u64 }
///
/// struct SendWelcome;
///
/// impl Process<WelcomeEmail> for SendWelcome {
///     async fn handle(&self, task: Payload<WelcomeEmail>, ctx: &Context) -> Result<(), TaskError> {
///         println!("attempt {} for user {}", ctx.attempt(), task.user_id);
///         Ok(())
///     }
/// }
/// ```
///
/// An async function is a handler too. It takes up to eight arguments in any order, exactly one of which is the
/// [`Payload`]. The others are a [`State`], the [`Context`], a [`Producer`](crate::producer::Producer) and [other
/// types](FromTask) built from the attempt. It returns the task's output, or any error that converts into a
/// [`TaskError`]:
///
/// ```
/// # use asynqueue_core::{process::{Context, Payload, State}, registry::ProcessWrapper};
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "email:welcome", crate = asynqueue_core)]
/// # struct WelcomeEmail { user_id: u64 }
/// # #[derive(Clone)] struct Mailer;
/// async fn send_welcome(State(_mailer): State<Mailer>, task: Payload<WelcomeEmail>) -> std::io::Result<()> {
///     println!("welcome, user {}", task.user_id);
///     Ok(())
/// }
///
/// let process = ProcessWrapper::new(send_welcome);
/// assert_eq!(process.event(), "email:welcome");
/// ```
///
/// Delivery is at least once: if a worker dies after the work is done but before the outcome is recorded, the task runs
/// again.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler for `{T}`",
    label = "does not handle `{T}`",
    note = "implement `Process<{T}>` for it"
)]
pub trait Process<T: Task>: Send + Sync + 'static {
    /// The event whose tasks this handles. Default: the event of the payload's type, under which a producer enqueues
    /// and publishes a `T`. Override it for tasks with the same payload that are enqueued under another name, for
    /// example by another program. A handler with an overridden event cannot
    /// [subscribe](crate::server::ServerBuilder::subscribe): it would receive no published `T`.
    fn event_name(&self) -> &str {
        T::EVENT
    }

    /// Runs one task. Written as an `async fn` whose future is `Send`.
    ///
    /// The future is dropped at its next `await` after the task's timeout or deadline has passed.
    /// [`Context::cancelled`] completes when the task is cancelled or the server shuts down.
    ///
    /// # Errors
    ///
    /// Any error is retried with the task's backoff; [`TaskError`] has constructors for other outcomes.
    fn handle(
        &self,
        task: Payload<T>,
        ctx: &Context,
    ) -> impl Future<Output = Result<T::Output, TaskError>> + Send;

    /// Checks that the server's state has the values this takes with [`Context::state`]. If this fails, the server
    /// cannot be built. By default nothing is checked. Functions check their arguments.
    ///
    /// ```
    /// # use asynqueue_core::process::{Context, MissingState, Payload, Process, ServerState, TaskError};
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "email:welcome", crate = asynqueue_core)]
    /// # struct WelcomeEmail { user_id: u64 }
    /// # struct Mailer;
    /// # struct SendWelcome;
    /// impl Process<WelcomeEmail> for SendWelcome {
    ///     async fn handle(&self, task: Payload<WelcomeEmail>, ctx: &Context) -> Result<(), TaskError> {
    ///         let _mailer: &Mailer = ctx.state()?;
    ///         Ok(())
    ///     }
    ///
    ///     fn check_state(&self, state: &ServerState) -> Result<(), MissingState> {
    ///         state.get::<Mailer>().map(drop)
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// If the state lacks a value that it needs.
    fn check_state(&self, _state: &ServerState) -> Result<(), MissingState> {
        Ok(())
    }
}
