//! Ending attempts at their timeout or deadline.

use tokio::time::{Instant, timeout_at};
use tower_layer::Layer;

use super::{BoxProcess, TaskService};
use crate::{
    process::{Context, TaskError, TaskErrorKind},
    task::FailureKind,
};

/// Drops the service's future at the [end of the attempt](crate::process::Context::deadline), and cancels its token.
///
/// The server applies it to every handler. A handler that blocks its thread cannot be dropped, but loses its slot and
/// its lease: see [`ServerBuilder::max_abandoned`](crate::server::ServerBuilder::max_abandoned).
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeoutLayer;

impl<S: TaskService> Layer<S> for TimeoutLayer {
    type Service = BoxProcess;

    fn layer(&self, inner: S) -> BoxProcess {
        let inner = inner.boxed();
        BoxProcess::from_fn(move |request| {
            let context = request.context.clone();
            let attempt = inner.run(request);
            Box::pin(async move {
                // An outer layer may have waited.
                if Instant::now() >= context.end() {
                    return Err(expired(&context));
                }
                // The timer is registered only when the attempt first waits.
                let in_time = timeout_at(context.end(), attempt).await;
                in_time.unwrap_or_else(|_| Err(expired(&context)))
            })
        })
    }
}

/// Returns the error of an attempt that took too long, and cancels its token.
pub(crate) fn expired(context: &Context) -> TaskError {
    context.cancellation_token().cancel();
    if context.ends_by_deadline() {
        // Another attempt would start past the deadline.
        let message = "deadline exceeded while running";
        TaskError::of(TaskErrorKind::SkipRetry, FailureKind::Deadline, message)
    } else {
        let timeout = context.envelope().options.timeout;
        let message = format!("timed out after {timeout:?}");
        TaskError::of(TaskErrorKind::Retry, FailureKind::Timeout, message)
    }
}
