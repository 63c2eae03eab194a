//! Functions and closures as processes: async ones, and ones that block.

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
    /// What it returns: of an async function, its future.
    type Returned;

    /// Calls it.
    fn call(&self, arguments: Arguments) -> Self::Returned;
}

/// Functions of these arguments.
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

/// What the handler of a task with the output `O` returns.
#[diagnostic::on_unimplemented(
    message = "a handler of this task returns `Result<{O}, E>`, not `{Self}`",
    label = "expected `Result<{O}, E>`",
    note = "`{O}` is the output of its task: set another by `#[task(output = …)]`, which is `()` where it is left out",
    note = "`E` is any error that becomes a `TaskError`: a type that implements `std::error::Error`, a boxed one, `anyhow::Error` or text"
)]
pub trait Returned<O> {
    /// The output or the error.
    ///
    /// # Errors
    ///
    /// When the handler returned one.
    fn into_result(self) -> Result<O, TaskError>;
}

#[diagnostic::do_not_recommend]
impl<O, E: Into<TaskError>> Returned<O> for Result<O, E> {
    fn into_result(self) -> Result<O, TaskError> {
        self.map_err(Into::into)
    }
}

/// Marks functions among what can be mounted, with what is inferred about them.
pub struct OfFunction<T, Args, Via>(PhantomData<fn(T, Args, Via)>);

/// An async function as the process of one type of task.
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

/// The same of a function that blocks its thread.
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
