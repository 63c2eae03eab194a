//! Ends an attempt at its timeout or deadline.

use std::task::{self, Poll};

use tower::{Layer, Service};

use super::{BoxError, TaskFuture, TaskOutput, TaskRequest};
use crate::{
    process::{Context, TaskError, TaskErrorKind},
    task::FailureKind,
};

/// Drops the service's future at the [end of the attempt](crate::Context::deadline), and cancels its token.
///
/// The server has it around every process. A process that blocks its thread and so can't be dropped loses its slot and
/// its lease all the same: see [`ServerBuilder::max_abandoned`](crate::ServerBuilder::max_abandoned).
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeoutLayer;

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout { inner }
    }
}

/// See [`TimeoutLayer`].
#[derive(Clone, Debug)]
pub struct Timeout<S> {
    inner: S,
}

impl<S> Service<TaskRequest> for Timeout<S>
where
    S: Service<TaskRequest, Response = TaskOutput>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = TaskOutput;
    type Error = TaskError;
    type Future = TaskFuture;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), TaskError>> {
        self.inner
            .poll_ready(cx)
            .map_err(|error| TaskError::from_boxed(error.into()))
    }

    fn call(&mut self, request: TaskRequest) -> TaskFuture {
        let context = request.context.clone();
        let attempt = self.inner.call(request);
        Box::pin(async move {
            // The timer is set only once the attempt has to wait for something.
            match tokio::time::timeout_at(context.deadline().into(), attempt).await {
                Ok(result) => result.map_err(|error| TaskError::from_boxed(error.into())),
                Err(_) => Err(expired(&context)),
            }
        })
    }
}

/// The error of an attempt that took too long, whose token is cancelled with it.
pub(crate) fn expired(context: &Context) -> TaskError {
    context.cancellation_token().cancel();
    if context.ends_by_deadline() {
        // Another attempt would start past the deadline.
        let message = "deadline exceeded while it ran";
        TaskError::of(TaskErrorKind::SkipRetry, FailureKind::Deadline, message)
    } else {
        let timeout = context.envelope().options.timeout;
        let message = format!("timed out after {timeout:?}");
        TaskError::of(TaskErrorKind::Retry, FailureKind::Timeout, message)
    }
}
