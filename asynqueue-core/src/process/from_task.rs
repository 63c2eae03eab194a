//! The arguments of a handler other than its payload.

use super::{Cancellation, Context, FromState, MissingState, ServerState, TaskError};
use crate::{
    producer::Producer,
    task::{Attempt, Headers, TaskId},
};

/// An argument of a handler, built from the attempt that is about to run. Arguments may be in any order, before or
/// after the [`Payload`](crate::process::Payload).
///
/// | argument | value |
/// |---|---|
/// | [`State<S>`](crate::process::State) | a clone of the server's shared value of type `S` |
/// | a type with `#[derive(FromState)]` | a struct of shared values |
/// | [`Context`] | the attempt, from which all other arguments are built |
/// | [`Producer`] | a producer on the server's own broker: see [`Context::producer`] |
/// | [`Cancellation`] | whether the attempt should stop, and a way to wait for that |
/// | [`TaskId`] | the task's id |
/// | [`Attempt`] | this attempt: its number, its worker, and when it started |
/// | [`Headers`] | the key-value pairs attached to the task |
///
/// Implement it to make a type an argument. It can fail, and its error decides what happens to the task, like an error
/// of the handler:
///
/// ```
/// use asynqueue_core::process::{Context, FromTask, Payload, TaskError};
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "report", crate = asynqueue_core)]
/// # struct Report;
///
/// struct Tenant(String);
///
/// impl FromTask for Tenant {
///     fn from_task(ctx: &Context) -> Result<Self, TaskError> {
///         let tenant = ctx.headers().get("tenant");
///         let tenant = tenant.ok_or_else(|| TaskError::skip_retry("the header `tenant` is missing"))?;
///         Ok(Self(tenant.into()))
///     }
/// }
///
/// async fn report(Tenant(tenant): Tenant, _: Payload<Report>) -> Result<(), TaskError> {
///     println!("for {tenant}");
///     Ok(())
/// }
/// ```
///
/// Arguments are built in their order, after the payload is decoded, and without an `await`: anything that waits
/// belongs in the handler. They are built for each attempt, so cloning them should be cheap.
///
/// A type implements either this or [`FromState`], not both. `Via` distinguishes the two and is inferred: implement
/// `FromTask` without a parameter.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler",
    label = "not an argument of a handler",
    note = "take the task itself as `Payload<{Self}>`, and a value shared with `.state(…)` as `State<{Self}>`",
    note = "`Context`, `Producer`, `Cancellation`, `TaskId`, `Attempt` and `Headers` are arguments too, and so are types with \
            `#[derive(FromState)]` and types that implement `FromTask`"
)]
pub trait FromTask<Via = ViaTask>: Sized + Send {
    /// Checks that the argument can be built on a server with this state. If this fails, the server cannot be built. By
    /// default nothing is checked.
    ///
    /// # Errors
    ///
    /// If the state lacks a value that it needs.
    fn check(_state: &ServerState) -> Result<(), MissingState> {
        Ok(())
    }

    /// Builds the argument for one attempt.
    ///
    /// # Errors
    ///
    /// Any error ends the attempt before the handler is called, as if the handler had returned it.
    fn from_task(ctx: &Context) -> Result<Self, TaskError>;
}

/// Marks types that implement [`FromTask`] themselves.
#[derive(Debug)]
pub struct ViaTask(());

/// Marks types that are arguments because they implement [`FromState`].
#[derive(Debug)]
pub struct ViaState(());

// For a type that is not an argument, the compiler shows the message at `FromTask` rather than what this impl lacks.
#[diagnostic::do_not_recommend]
impl<A: FromState + Send> FromTask<ViaState> for A {
    fn check(state: &ServerState) -> Result<(), MissingState> {
        Self::from_state(state).map(drop)
    }

    fn from_task(ctx: &Context) -> Result<Self, TaskError> {
        Ok(Self::from_state(ctx.server_state())?)
    }
}

/// Implements `FromTask` for parts that every attempt has.
macro_rules! parts {
    ($($type:ty: |$ctx:ident| $part:expr;)*) => { $(
        impl FromTask for $type {
            fn from_task($ctx: &Context) -> Result<Self, TaskError> {
                Ok($part)
            }
        }
    )* };
}

parts! {
    Context: |ctx| ctx.clone();
    Producer: |ctx| ctx.producer();
    Cancellation: |ctx| Cancellation::new(ctx);
    TaskId: |ctx| ctx.id().clone();
    Headers: |ctx| ctx.headers().clone();
    Attempt: |ctx| Attempt {
        number: ctx.attempt(),
        started: Some(ctx.started()),
        ended: None,
        worker: Some(ctx.worker().clone()),
        failure: None,
    };
}
