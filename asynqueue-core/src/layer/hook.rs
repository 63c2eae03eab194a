//! Hooks: code that runs before and after each attempt.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use tower_layer::Layer;

use super::{
    Archived, BoxProcess, TaskOutput, TaskRequest, TaskService, archived::applied, discard,
};
use crate::process::{Context, TaskError, TaskErrorKind};

/// Code that runs around each attempt and for each archived task, where a layer would be too much: audit lines, set-up,
/// alerts. A panic in [`before`](Self::before) fails the attempt. Panics in the other methods are logged and have no
/// effect.
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
    /// Runs before the handler.
    ///
    /// # Errors
    ///
    /// An error becomes the outcome of the attempt, as if the handler had returned it. The handler does not run.
    fn before(&self, _ctx: &Context) -> impl Future<Output = Result<(), TaskError>> + Send {
        async { Ok(()) }
    }

    /// Runs after the handler has succeeded.
    fn after(&self, _ctx: &Context) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Runs after the handler has failed, panicked or timed out. Not called when the handler snoozes or revokes its
    /// task, nor when it stopped because the server is shutting down and the task is released.
    fn on_error(&self, _ctx: &Context, _error: &TaskError) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Runs after [`on_error`](Self::on_error) if no attempt is left and the task is about to be archived. Tasks can be
    /// archived without such an attempt; [`on_archived`](Self::on_archived) is called for every archived task.
    fn on_exhausted(&self, _ctx: &Context, _error: &TaskError) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Runs when a task has been archived, for any reason: its last attempt failed or panicked, it returned an error
    /// that skips retries, its payload could not be decoded, its event has no handler, its deadline passed or it
    /// expired, its worker was lost in the last attempt, it was cancelled while a server held it, or it was an
    /// undecodable member of a group.
    ///
    /// The server that recorded the outcome calls it once, after the broker has archived the task. A hook of a
    /// [handler](crate::registry::ProcessWrapper::with_hook) is called for the tasks of its event; a hook of the
    /// [server](crate::server::ServerBuilder::hook) is called for all tasks. It is not called if no server is involved:
    /// when a producer or the [`Inspector`](crate::inspector::Inspector) cancels or archives a waiting task, or when a
    /// broker archives a task that it cannot read. It is also lost if the server dies right after recording the
    /// outcome.
    ///
    /// It runs on a separate thread, and delays neither attempts nor the recording of outcomes. Up to 16 tasks have
    /// their hooks called concurrently, in no particular order. A call is abandoned at its first `await` after 30 s. A
    /// shutdown waits up to 10 s for remaining calls. Up to 10,000 tasks, with 64 MiB of payloads, wait for their
    /// calls; further tasks are skipped, and their number is logged as an error. A panic is logged and has no effect.
    fn on_archived(&self, _task: &Archived) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// Runs a [`Hook`] around the service.
#[derive(Debug)]
pub struct HookLayer<H>(Arc<H>);

impl<H: Hook> HookLayer<H> {
    /// Creates a layer that runs `hook`.
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
    // The outcome of the attempt stands, even if a hook panics.
    let called = AssertUnwindSafe(call_after(hook, &ctx, &result))
        .catch_unwind()
        .await;
    if let Err(payload) = called {
        discard(payload);
        tracing::error!(task = %ctx.task_ref(), "a hook panicked after its handler");
    }
    result
}

async fn call_after(hook: &impl Hook, ctx: &Context, result: &Result<TaskOutput, TaskError>) {
    let error = match result {
        Ok(_) => return hook.after(ctx).await,
        Err(error) => error,
    };
    if ctx.releases(error)
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
