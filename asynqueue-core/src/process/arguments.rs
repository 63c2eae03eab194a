//! The arguments of a handler: one payload, and values built from the attempt.

use super::{Context, FromTask, MissingState, Payload, ServerState, TaskError};

/// A handler's arguments as a tuple, exactly one of which is the `Payload<T>`. `Via` marks which one, and how each of
/// the others is built.
#[diagnostic::on_unimplemented(
    message = "a handler takes up to 8 arguments, exactly one of which is a `Payload<T>`, not `{Self}`",
    label = "not the arguments of a handler",
    note = "write `task: Payload<T>`, where `T` is the struct with `#[derive(Task)]`"
)]
pub trait Arguments<T, Via>: Sized + Send + 'static {
    /// Checks that they can be built on a server with this state.
    ///
    /// # Errors
    ///
    /// If the state lacks a value that one of them needs.
    fn check(state: &ServerState) -> Result<(), MissingState>;

    /// Builds the arguments for one attempt.
    ///
    /// # Errors
    ///
    /// The error of the first argument that cannot be built.
    fn build(task: Payload<T>, ctx: &Context) -> Result<Self, TaskError>;
}

/// Marks the position of the payload.
#[derive(Debug)]
pub struct ViaPayload(());

/// Implements `Arguments` with some arguments before the payload and some after it.
macro_rules! arguments {
    ([$($before:ident by $via_before:ident,)*] [$($after:ident by $via_after:ident,)*]) => {
        #[diagnostic::do_not_recommend]
        impl<T, $($before, $via_before,)* $($after, $via_after,)*>
            Arguments<T, ($($via_before,)* ViaPayload, $($via_after,)*)>
            for ($($before,)* Payload<T>, $($after,)*)
        where
            T: Send + 'static,
            $($before: FromTask<$via_before> + 'static,)*
            $($after: FromTask<$via_after> + 'static,)*
        {
            fn check(_state: &ServerState) -> Result<(), MissingState> {
                $($before::check(_state)?;)*
                $($after::check(_state)?;)*
                Ok(())
            }

            fn build(task: Payload<T>, _ctx: &Context) -> Result<Self, TaskError> {
                Ok(($($before::from_task(_ctx)?,)* task, $($after::from_task(_ctx)?,)*))
            }
        }
    };
}

/// Implements `Arguments` for every position of the payload.
macro_rules! places {
    ([$($before:tt)*]) => {
        arguments!([$($before)*] []);
    };
    ([$($before:tt)*] $next:ident by $via:ident, $($after:tt)*) => {
        arguments!([$($before)*] [$next by $via, $($after)*]);
        places!([$($before)* $next by $via,] $($after)*);
    };
}

places!([]);
places!([] A by Va,);
places!([] A by Va, B by Vb,);
places!([] A by Va, B by Vb, C by Vc,);
places!([] A by Va, B by Vb, C by Vc, D by Vd,);
places!([] A by Va, B by Vb, C by Vc, D by Vd, E by Ve,);
places!([] A by Va, B by Vb, C by Vc, D by Vd, E by Ve, F by Vf,);
places!([] A by Va, B by Vb, C by Vc, D by Vd, E by Ve, F by Vf, G by Vg,);
