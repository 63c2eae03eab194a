//! What a handler can take as an argument beside its payload.

use super::{Cancellation, Context, FromState, MissingState, ServerState, TaskError};
use crate::{
    producer::Producer,
    task::{Attempt, Headers, TaskId},
};

/// An argument of a handler, built from the attempt that is about to run. Arguments stand in any order around the one
/// [`Payload`](crate::process::Payload).
///
/// | an argument | is |
/// |---|---|
/// | [`State<S>`](crate::process::State) | a clone of the server's shared value of type `S` |
/// | a type with `#[derive(FromState)]` | a struct of such values |
/// | [`Context`] | the attempt: all that the others are built from |
/// | [`Producer`] | enqueues to the server's own broker: see [`Context::producer`] |
/// | [`Cancellation`] | whether to stop, and a wait for it |
/// | [`TaskId`] | the task's id |
/// | [`Attempt`] | this attempt: its number, the worker, and when it began |
/// | [`Headers`] | the key-value pairs that travel with the task |
///
/// A type of one's own is one by an implementation. It can fail, and its error decides what happens to the task as an
/// error of the handler would:
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
/// Arguments are built in their order, after the payload is decoded, and without an `await`: work that waits belongs in the
/// handler. They are built for each attempt, so clone what is cheap to clone.
///
/// A type implements either this or [`FromState`], not both. `Via` keeps the two apart, and is inferred: implement
/// `FromTask`, without a parameter.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler",
    label = "not an argument of a handler",
    note = "the task itself is taken as `Payload<{Self}>`, and a value shared by `.state(…)` as `State<{Self}>`",
    note = "`Context`, `Producer`, `Cancellation`, `TaskId`, `Attempt` and `Headers` are arguments too, and so are types with \
            `#[derive(FromState)]` and types that implement `FromTask`"
)]
pub trait FromTask<Via = ViaTask>: Sized + Send {
    /// Whether the argument can be built on a server with this state: a server where this fails is refused when it is built.
    /// By default nothing is checked.
    ///
    /// # Errors
    ///
    /// When the state lacks a value that it needs.
    fn check(_state: &ServerState) -> Result<(), MissingState> {
        Ok(())
    }

    /// The argument for one attempt.
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

// Of a type that is no argument, the compiler says what is at the top of `FromTask`, and not what this lacks.
#[diagnostic::do_not_recommend]
impl<A: FromState + Send> FromTask<ViaState> for A {
    fn check(state: &ServerState) -> Result<(), MissingState> {
        Self::from_state(state).map(drop)
    }

    fn from_task(ctx: &Context) -> Result<Self, TaskError> {
        Ok(Self::from_state(ctx.server_state())?)
    }
}

/// Arguments that every attempt has.
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
