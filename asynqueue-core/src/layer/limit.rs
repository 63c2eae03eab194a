//! At most so many at once.

use std::{
    sync::Arc,
    task::{self, Poll},
};

use tokio::sync::Semaphore;
use tower::{Layer, Service};

use super::{BoxError, TaskFuture, TaskOutput, TaskRequest};
use crate::process::TaskError;

/// Runs at most `max` attempts at once in this process, for what is behind this one layer value.
///
/// Around one [`ProcessWrapper`](crate::ProcessWrapper) it limits that event; around a server, or cloned around
/// several processes, it limits them together. An attempt that waits holds one of the server's slots, and its timeout
/// runs; a queue of its own with
/// [`queue_concurrency`](crate::ServerBuilder::queue_concurrency) leaves the tasks waiting in the broker instead.
///
/// ```
/// # use asynqueue_core::{Context, Payload, ProcessWrapper, TaskError, layer::ConcurrencyLimitLayer};
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "video:encode", crate = asynqueue_core)]
/// # struct Encode;
/// async fn encode(_: Payload<Encode>, _: Context) -> Result<(), TaskError> {
///     Ok(())
/// }
///
/// let process = ProcessWrapper::new(encode).layer(ConcurrencyLimitLayer::new(2));
/// ```
#[derive(Clone, Debug)]
pub struct ConcurrencyLimitLayer {
    permits: Arc<Semaphore>,
}

impl ConcurrencyLimitLayer {
    /// At most `max` attempts at once, at least one.
    pub fn new(max: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS))),
        }
    }
}

impl<S> Layer<S> for ConcurrencyLimitLayer {
    type Service = ConcurrencyLimit<S>;

    fn layer(&self, inner: S) -> ConcurrencyLimit<S> {
        ConcurrencyLimit {
            inner,
            permits: Arc::clone(&self.permits),
        }
    }
}

/// See [`ConcurrencyLimitLayer`].
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit<S> {
    inner: S,
    permits: Arc<Semaphore>,
}

impl<S> Service<TaskRequest> for ConcurrencyLimit<S>
where
    S: Service<TaskRequest, Response = TaskOutput> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
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
        // The one that was polled ready is the one to call: tower's documented swap.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let permits = Arc::clone(&self.permits);
        Box::pin(async move {
            // The semaphore is never closed.
            let _permit = permits.acquire().await;
            inner
                .call(request)
                .await
                .map_err(|error| TaskError::from_boxed(error.into()))
        })
    }
}
