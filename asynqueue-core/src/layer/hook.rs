//! Hooks: code before and after each attempt.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use tower_layer::Layer;

use super::{
    Archived, BoxProcess, TaskOutput, TaskRequest, TaskService, archived::applied, discard,
};
use crate::process::{Context, TaskError, TaskErrorKind};

/// Code that runs around each attempt and for each archived task, where a layer would be too much: audit lines, set-up,
/// alerts. A panic in [`before`](Self::before) is the attempt's outcome; later ones are logged and change nothing.
///
/// ```
/// use asynqueue_core::layer::{Archived, Hook};
///
/// struct Audit;
///
/// impl Hook for Audit {
///     async fn on_archived(&self, task: &Archived) {
///         eprintln!("{} will not run again: {}", task.id(), task.failure().message);
///     }
/// }
/// ```
pub trait Hook: Send + Sync + 'static {
    /// Runs before the process.
    ///
    /// # Errors
    ///
    /// An error is the attempt's outcome, as if the process had returned it; the process does not run.
    fn before(&self, _ctx: &Context) -> impl Future<Output = Result<(), TaskError>> + Send {
        async { Ok(()) }
    }

    /// Runs when the process has succeeded.
    fn after(&self, _ctx: &Context) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Runs when the process has failed, panicked or timed out; not when it asked to snooze or revoke its task, nor when
    /// it stopped because the server shuts down and its task is given back.
    fn on_error(&self, _ctx: &Context, _error: &TaskError) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Runs after [`on_error`](Self::on_error) when no attempt is left: the task is going to be archived. Not for a task
    /// that is archived without such an attempt: [`on_archived`](Self::on_archived) is called for each that is.
    fn on_exhausted(&self, _ctx: &Context, _error: &TaskError) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Runs when a task has been archived, however it came to that: its last attempt failed, it panicked or asked not to
    /// be retried, its payload could not be decoded, no process is registered for its event, its deadline passed or it
    /// expired, its worker was lost in its last attempt, it was cancelled while a server had it, or it was the
    /// member of a group and could not be read.
    ///
    /// The server that recorded this calls it, once, after the broker has taken the task into the archive. A hook of a
    /// [process](crate::registry::ProcessWrapper::with_hook) is called for the tasks of its event, one of the
    /// [server](crate::server::ServerBuilder::hook) for all tasks. It is not called where no server is involved: when a producer or
    /// the [`Inspector`](crate::inspector::Inspector) cancels or shelves a task that waits, or when a broker archives what it cannot
    /// read at all. A server that dies right after it recorded this does not call it either.
    ///
    /// It runs apart from attempts, on a thread of its own, and holds up neither them nor the recording of outcomes. The
    /// server runs it for up to 16 tasks at once, in no order of tasks, gives a call up at its first `await` after 30 s, and
    /// waits on shutdown up to 10 s for the calls that are left. At most 10,000 tasks, with 64 MiB of payloads, wait for their
    /// calls; further ones are left out, and an error in the log says how many. A panic is logged and changes nothing.
    fn on_archived(&self, _task: &Archived) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// Runs a [`Hook`] around the service.
#[derive(Debug)]
pub struct HookLayer<H>(Arc<H>);

impl<H: Hook> HookLayer<H> {
    /// A layer that runs `hook`.
    pub fn new(hook: H) -> Self {
        Self(Arc::new(hook))
    }
}

impl<H> Clone for HookLayer<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: TaskService, H: Hook> Layer<S> for HookLayer<H> {
    type Service = BoxProcess;

    fn layer(&self, inner: S) -> BoxProcess {
        let (inner, hook) = (inner.boxed(), Arc::clone(&self.0));
        applied(Arc::clone(&self.0) as _);
        BoxProcess::from_fn(move |request| {
            let (inner, hook) = (inner.clone(), Arc::clone(&hook));
            Box::pin(async move { around(&*hook, &inner, request).await })
        })
    }
}

async fn around(
    hook: &impl Hook,
    inner: &BoxProcess,
    request: TaskRequest,
) -> Result<TaskOutput, TaskError> {
    let ctx = request.context.clone();
    let result = match hook.before(&ctx).await {
        Ok(()) => inner.run(request).await,
        Err(error) => Err(error),
    };
    // What has come of the attempt stands, whatever happens to those who are told.
    let told = AssertUnwindSafe(tell(hook, &ctx, &result))
        .catch_unwind()
        .await;
    if let Err(payload) = told {
        discard(payload);
        tracing::error!(task = %ctx.task_ref(), "a hook panicked after its process");
    }
    result
}

async fn tell(hook: &impl Hook, ctx: &Context, result: &Result<TaskOutput, TaskError>) {
    let error = match result {
        Ok(_) => return hook.after(ctx).await,
        Err(error) => error,
    };
    if ctx.gives_back(error)
        || matches!(
            error.kind(),
            TaskErrorKind::Revoke | TaskErrorKind::Snooze(_)
        )
    {
        return;
    }
    hook.on_error(ctx, error).await;
    if is_last(ctx, error) {
        hook.on_exhausted(ctx, error).await;
    }
}

fn is_last(ctx: &Context, error: &TaskError) -> bool {
    match error.kind() {
        TaskErrorKind::Retry | TaskErrorKind::RetryAfter(_) => {
            ctx.attempt() > ctx.max_retry() && ctx.is_failure(error)
        }
        TaskErrorKind::SkipRetry => true,
        TaskErrorKind::Revoke | TaskErrorKind::Snooze(_) => false,
    }
}
