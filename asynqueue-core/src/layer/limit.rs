//! Limiting how many attempts run concurrently.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tower_layer::Layer;

use super::{
    BoxProcess, TaskService,
    gate::{Gate, Limit},
    pace::Pace,
};

/// Runs at most `max` attempts concurrently in this process, counting everything behind this layer value and its
/// clones.
///
/// Around a [`ProcessWrapper`](crate::registry::ProcessWrapper) it limits that event. Around a server, or cloned around
/// several handlers, it limits them together.
///
/// The server checks the limit before an attempt starts. A task over it waits in the broker, about in its order, and
/// takes neither a slot nor any of its timeout. It comes back about when its turn is near; the next in line is back
/// within a second after another attempt has ended. The server cannot see the limit if a layer of another crate is
/// composed around this one. Then, and without a server, the attempt itself waits, while its timeout runs.
///
/// ```
/// # use asynqueue_core::{
/// #     layer::ConcurrencyLimitLayer,
/// #     process::{Context, Payload, TaskError},
/// #     registry::ProcessWrapper,
/// # };
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
    gate: Arc<Gate>,
}

impl ConcurrencyLimitLayer {
    /// Allows `max` concurrent attempts, at least one.
    pub fn new(max: usize) -> Self {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(max));
        let gate = Gate::new(Limit::AtOnce {
            permits: Arc::clone(&permits),
            max,
            pace: Pace::new(),
        });
        Self { permits, gate }
    }
}

impl<S: TaskService> Layer<S> for ConcurrencyLimitLayer {
    type Service = BoxProcess;

    fn layer(&self, inner: S) -> BoxProcess {
        let inner = inner.boxed();
        let gates = inner.gates().within(&self.gate);
        let (permits, gate) = (Arc::clone(&self.permits), Arc::clone(&self.gate));
        BoxProcess::from_fn(move |request| {
            if request.context.has_passed(&gate) {
                return inner.run(request);
            }
            let (inner, permits) = (inner.clone(), Arc::clone(&permits));
            Box::pin(async move {
                // The semaphore is never closed.
                let _permit = permits.acquire().await;
                inner.run(request).await
            })
        })
        .behind(gates)
    }
}
