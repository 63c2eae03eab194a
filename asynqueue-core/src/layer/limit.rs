//! At most so many at once.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tower::Layer;

use super::{BoxProcess, TaskService};

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

impl<S: TaskService> Layer<S> for ConcurrencyLimitLayer {
    type Service = BoxProcess;

    fn layer(&self, inner: S) -> BoxProcess {
        let (inner, permits) = (inner.boxed(), Arc::clone(&self.permits));
        BoxProcess::from_fn(move |request| {
            let (inner, permits) = (inner.clone(), Arc::clone(&permits));
            Box::pin(async move {
                // The semaphore is never closed.
                let _permit = permits.acquire().await;
                inner.run(request).await
            })
        })
    }
}
