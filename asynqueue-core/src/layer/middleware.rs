//! Layers made from async closures.

use std::{future::Future, sync::Arc};

use tower_layer::Layer;

use super::{BoxProcess, TaskOutput, TaskRequest, TaskService};
use crate::process::TaskError;

/// Turns an async closure into a layer. Most layers need no separate type.
///
/// The closure
///
/// 1. takes a [`TaskRequest`] and a [`Next`],
/// 2. returns `Result<TaskOutput, TaskError>`,
/// 3. and calls [`Next::run`] to continue, or does not.
///
/// ```
/// use asynqueue_core::layer::{Next, TaskRequest, middleware_fn};
///
/// let timed = middleware_fn(|request: TaskRequest, next: Next| async move {
///     let (id, started) = (request.context.id().clone(), std::time::Instant::now());
///     let result = next.run(request).await;
///     println!("{id} took {:?}", started.elapsed());
///     result
/// });
/// # fn is_layer(_: impl tower::Layer<asynqueue_core::layer::BoxProcess>) {}
/// # is_layer(timed);
/// ```
pub fn middleware_fn<F, Fut>(f: F) -> MiddlewareLayer<F>
where
    F: Fn(TaskRequest, Next) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<TaskOutput, TaskError>> + Send + 'static,
{
    MiddlewareLayer(Arc::new(f))
}

/// The layer returned by [`middleware_fn`].
#[derive(Debug)]
pub struct MiddlewareLayer<F>(Arc<F>);

impl<F> Clone for MiddlewareLayer<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S, F, Fut> Layer<S> for MiddlewareLayer<F>
where
    S: TaskService,
    F: Fn(TaskRequest, Next) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<TaskOutput, TaskError>> + Send + 'static,
{
    type Service = BoxProcess;

    fn layer(&self, inner: S) -> BoxProcess {
        let (inner, f) = (inner.boxed(), Arc::clone(&self.0));
        BoxProcess::from_fn(move |request| Box::pin(f(request, Next(inner.clone()))))
    }
}

/// The rest of the layers, and the handler.
#[derive(Clone, Debug)]
pub struct Next(BoxProcess);

impl Next {
    /// Runs the rest of the layers and the handler.
    ///
    /// # Errors
    ///
    /// The error of the handler or of an inner layer.
    pub async fn run(self, request: TaskRequest) -> Result<TaskOutput, TaskError> {
        self.0.run(request).await
    }
}
