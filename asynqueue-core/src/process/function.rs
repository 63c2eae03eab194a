//! Functions and closures as handlers: async and blocking ones.

use std::{future::Future, marker::PhantomData, sync::Arc};

use super::{
    Context, MissingState, Payload, Process, ServerState, TaskError, arguments::Arguments,
};
use crate::{
    registry::{IntoBlockingProcess, IntoProcess, ProcessWrapper},
    task::Task,
};

/// A function of a tuple of arguments.
pub trait Function<Arguments> {
    /// The return type. For an async function, its future.
    type Returned;

    /// Calls it.
    fn call(&self, arguments: Arguments) -> Self::Returned;
}

/// Implements `Function` for functions of these arguments.
macro_rules! functions {
    ($($argument:ident)*) => {
        impl<Fun, R, $($argument,)*> Function<($($argument,)*)> for Fun
        where
            Fun: Fn($($argument),*) -> R,
        {
            type Returned = R;

            #[allow(non_snake_case, reason = "arguments are named like their types")]
            fn call(&self, ($($argument,)*): ($($argument,)*)) -> R {
                self($($argument),*)
            }
        }
    };
}

functions! { A }
functions! { A B }
functions! { A B C }
functions! { A B C D }
functions! { A B C D E }
functions! { A B C D E F }
functions! { A B C D E F G }
functions! { A B C D E F G H }

/// The return type of a handler whose task has the output `O`.
#[diagnostic::on_unimplemented(
    message = "the handler of this task returns `Result<{O}, E>`, not `{Self}`",
    label = "expected `Result<{O}, E>`",
    note = "`{O}` is the output of its task: set it with `#[task(output = …)]`; the default is `()`",
    note = "`E` is any error that converts into a `TaskError`: a type that implements `std::error::Error`, a boxed one, `anyhow::Error` or text"
)]
pub trait Returned<O> {
    /// Converts it into the output or the error.
    ///
    /// # Errors
    ///
    /// If the handler returned an error.
    fn into_result(self) -> Result<O, TaskError>;
}

#[diagnostic::do_not_recommend]
impl<O, E: Into<TaskError>> Returned<O> for Result<O, E> {
    fn into_result(self) -> Result<O, TaskError> {
        self.map_err(Into::into)
    }
}

/// Marks functions among the types that can be registered, with the inferred types.
pub struct OfFunction<T, Args, Via>(PhantomData<fn(T, Args, Via)>);

/// An async function as the handler of one type of task.
struct Async<F, Args, Via> {
    function: F,
    arguments: PhantomData<fn(Args, Via)>,
}

impl<T, F, Args, Via, Fut> Process<T> for Async<F, Args, Via>
where
    T: Task,
    F: Function<Args, Returned = Fut> + Send + Sync + 'static,
    Args: Arguments<T, Via>,
    Via: 'static,
    Fut: Future<Output: Returned<T::Output>> + Send,
{
    async fn handle(&self, task: Payload<T>, ctx: &Context) -> Result<T::Output, TaskError> {
        let attempt = self.function.call(Args::build(task, ctx)?);
        attempt.await.into_result()
    }

    fn check_state(&self, state: &ServerState) -> Result<(), MissingState> {
        Args::check(state)
    }
}

impl<T, F, Args, Via, Fut> IntoProcess<OfFunction<T, Args, Via>> for F
where
    T: Task,
    F: Function<Args, Returned = Fut> + Send + Sync + 'static,
    Args: Arguments<T, Via>,
    Via: 'static,
    Fut: Future<Output: Returned<T::Output>> + Send,
{
    fn into_process(self) -> ProcessWrapper {
        ProcessWrapper::of(Async {
            function: self,
            arguments: PhantomData::<fn(Args, Via)>,
        })
    }
}

/// A blocking function as the handler of one type of task.
struct Blocking<F, Args, Via> {
    function: Arc<F>,
    arguments: PhantomData<fn(Args, Via)>,
}

impl<T, F, Args, Via> Process<T> for Blocking<F, Args, Via>
where
    T: Task,
    F: Function<Args, Returned: Returned<T::Output>> + Send + Sync + 'static,
    Args: Arguments<T, Via>,
    Via: 'static,
{
    async fn handle(&self, task: Payload<T>, ctx: &Context) -> Result<T::Output, TaskError> {
        let function = Arc::clone(&self.function);
        let arguments = Args::build(task, ctx)?;
        let work = ctx.run_blocking(move |_| function.call(arguments).into_result());
        work.await?
    }

    fn check_state(&self, state: &ServerState) -> Result<(), MissingState> {
        Args::check(state)
    }
}

impl<T, F, Args, Via> IntoBlockingProcess<OfFunction<T, Args, Via>> for F
where
    T: Task,
    F: Function<Args, Returned: Returned<T::Output>> + Send + Sync + 'static,
    Args: Arguments<T, Via>,
    Via: 'static,
{
    fn into_blocking_process(self) -> ProcessWrapper {
        ProcessWrapper::of(Blocking {
            function: Arc::new(self),
            arguments: PhantomData::<fn(Args, Via)>,
        })
    }
}
