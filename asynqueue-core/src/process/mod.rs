//! What users write: processes, what they are handed and what they return.

mod arguments;
mod blocking;
mod cancellation;
#[doc(hidden)]
pub mod checked;
mod context;
mod error;
mod from_task;
mod function;
mod noted;
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
    noted::Noted,
    result::MaxResult,
};
pub use self::{
    cancellation::Cancellation,
    context::{Context, Progress},
    error::{OnDecodeError, TaskError, TaskErrorKind},
    from_task::FromTask,
    payload::Payload,
    result::{DEFAULT_MAX_RESULT, ResultTooLarge, SetResultError},
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
/// An async function is a process too. It takes up to eight arguments in any order, exactly one of which is the [`Payload`];
/// the others are a [`State`], the [`Context`], a [`Producer`](crate::producer::Producer) and [whatever else](FromTask) can be
/// built from the attempt. It returns the task's output, or any error that becomes a [`TaskError`]:
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
/// Delivery is at least once: a worker can die after the work and before it is recorded, and then the task runs again.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a process for `{T}`",
    label = "does not handle `{T}`",
    note = "implement `Process<{T}>` for it"
)]
pub trait Process<T: Task>: Send + Sync + 'static {
    /// The event whose tasks this handles. By default the payload's own, which is the one that a producer enqueues and publishes
    /// a `T` under. Another is for tasks of the same form that are enqueued under another name, as by another program. A process
    /// with a name of its own cannot [subscribe](crate::server::ServerBuilder::subscribe): it would receive no published `T`.
    fn event_name(&self) -> &str {
        T::EVENT
    }

    /// Does the work of one task. Written as an `async fn`, whose future can be sent between threads.
    ///
    /// Dropped at the next `await` when the task's timeout or deadline has passed; [`Context::cancelled`] tells
    /// beforehand when it is cancelled or the server shuts down.
    ///
    /// # Errors
    ///
    /// Any error is retried by the task's backoff; [`TaskError`] has constructors for other outcomes.
    fn handle(
        &self,
        task: Payload<T>,
        ctx: &Context,
    ) -> impl Future<Output = Result<T::Output, TaskError>> + Send;

    /// Whether the server's state has what this takes from it by [`Context::state`]: a server where this fails is refused
    /// when it is built. By default nothing is checked; functions check their arguments.
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
    /// When the state lacks a value that it needs.
    fn check_state(&self, _state: &ServerState) -> Result<(), MissingState> {
        Ok(())
    }
}
