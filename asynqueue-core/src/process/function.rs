//! Functions and closures as processes: async ones, and ones that block.

use std::{future::Future, marker::PhantomData, sync::Arc};

use super::{Context, FromState, MissingState, Payload, Process, ServerState, TaskError};
use crate::{
    registry::{IntoBlockingProcess, IntoProcess, ProcessWrapper},
    task::Task,
};

/// What an async function can take after its payload: the [`Context`], and whatever is [built](FromState) from the
/// server's state, such as [`State<T>`](crate::process::State).
pub trait HandlerArgument: Sized + Send {
    /// Checks that it can be built on a server with this state.
    ///
    /// # Errors
    ///
    /// When the state lacks a value that it needs.
    fn check(state: &ServerState) -> Result<(), MissingState>;

    /// The argument for one attempt.
    ///
    /// # Errors
    ///
    /// When the state lacks a value that it needs.
    fn from_context(ctx: &Context) -> Result<Self, MissingState>;
}

impl HandlerArgument for Context {
    fn check(_: &ServerState) -> Result<(), MissingState> {
        Ok(())
    }

    fn from_context(ctx: &Context) -> Result<Self, MissingState> {
        Ok(ctx.clone())
    }
}

impl<A: FromState + Send> HandlerArgument for A {
    fn check(state: &ServerState) -> Result<(), MissingState> {
        Self::from_state(state).map(drop)
    }

    fn from_context(ctx: &Context) -> Result<Self, MissingState> {
        Self::from_state(ctx.server_state())
    }
}

/// A function, and the types of its arguments: what makes it a process of one type of task.
struct Function<F, Arguments> {
    function: F,
    arguments: PhantomData<fn(Arguments)>,
}

/// The same of a function that blocks its thread.
struct BlockingFunction<F, Arguments> {
    function: Arc<F>,
    arguments: PhantomData<fn(Arguments)>,
}

/// Functions of a payload and these arguments after it.
macro_rules! functions {
    ($($argument:ident)*) => {
        impl<T, F, Fut, E, $($argument,)*> Process<T> for Function<F, (Payload<T>, $($argument,)*)>
        where
            T: Task,
            F: Fn(Payload<T>, $($argument),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<T::Output, E>> + Send,
            E: Into<TaskError>,
            $($argument: HandlerArgument + 'static,)*
        {
            async fn handle(&self, task: Payload<T>, _ctx: &Context) -> Result<T::Output, TaskError> {
                let attempt = (self.function)(task, $($argument::from_context(_ctx)?),*);
                attempt.await.map_err(Into::into)
            }

            fn check_state(&self, _state: &ServerState) -> Result<(), MissingState> {
                $($argument::check(_state)?;)*
                Ok(())
            }
        }

        impl<T, F, Fut, E, $($argument,)*> IntoProcess<(Payload<T>, $($argument,)*)> for F
        where
            T: Task,
            F: Fn(Payload<T>, $($argument),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<T::Output, E>> + Send,
            E: Into<TaskError>,
            $($argument: HandlerArgument + 'static,)*
        {
            fn into_process(self) -> ProcessWrapper {
                ProcessWrapper::of(Function {
                    function: self,
                    arguments: PhantomData,
                })
            }
        }

        impl<T, F, E, $($argument,)*> Process<T> for BlockingFunction<F, (Payload<T>, $($argument,)*)>
        where
            T: Task,
            F: Fn(Payload<T>, $($argument),*) -> Result<T::Output, E> + Send + Sync + 'static,
            E: Into<TaskError>,
            $($argument: HandlerArgument + 'static,)*
        {
            #[allow(non_snake_case, reason = "arguments are named like their types")]
            async fn handle(&self, task: Payload<T>, ctx: &Context) -> Result<T::Output, TaskError> {
                let function = Arc::clone(&self.function);
                $(let $argument = $argument::from_context(ctx)?;)*
                let work = ctx.run_blocking(move |_| function(task, $($argument),*).map_err(Into::into));
                work.await?
            }

            fn check_state(&self, _state: &ServerState) -> Result<(), MissingState> {
                $($argument::check(_state)?;)*
                Ok(())
            }
        }

        impl<T, F, E, $($argument,)*> IntoBlockingProcess<(Payload<T>, $($argument,)*)> for F
        where
            T: Task,
            F: Fn(Payload<T>, $($argument),*) -> Result<T::Output, E> + Send + Sync + 'static,
            E: Into<TaskError>,
            $($argument: HandlerArgument + 'static,)*
        {
            fn into_blocking_process(self) -> ProcessWrapper {
                ProcessWrapper::of(BlockingFunction {
                    function: Arc::new(self),
                    arguments: PhantomData,
                })
            }
        }
    };
}

functions! {}
functions! { A }
functions! { A B }
functions! { A B C }
functions! { A B C D }
functions! { A B C D G }
functions! { A B C D G H }
