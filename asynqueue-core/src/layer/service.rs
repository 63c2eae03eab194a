//! The one request type, and a service over it whose type is erased.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
};

use bytes::Bytes;
use tower::{Service, ServiceExt};

use super::BoxError;
use crate::process::{Context, TaskError};

/// One attempt at one task, on its way through the layers to the process.
#[derive(Clone, Debug)]
pub struct TaskRequest {
    /// The task; the payload is in its [envelope](Context::envelope), still encoded.
    pub context: Context,
}

/// What an attempt yields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskOutput {
    /// The process's output in the task's codec, if there is any.
    pub result: Option<Bytes>,
}

/// The future of an attempt.
pub type TaskFuture = Pin<Box<dyn Future<Output = Result<TaskOutput, TaskError>> + Send>>;

/// A process with its layers around it, whatever their types. Cheap to clone.
#[derive(Clone)]
pub struct BoxProcess(Arc<dyn ErasedService>);

trait ErasedService: Send + Sync {
    fn call(&self, request: TaskRequest) -> TaskFuture;
}

impl BoxProcess {
    /// Erases a service's type. Each attempt runs on a clone of it, once that is ready.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<TaskRequest, Response = TaskOutput> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        Self(Arc::new(Cloned(service)))
    }

    /// A service that is a plain function, and always ready.
    pub(crate) fn from_fn<F>(call: F) -> Self
    where
        F: Fn(TaskRequest) -> TaskFuture + Send + Sync + 'static,
    {
        Self(Arc::new(Called(call)))
    }

    /// Runs one attempt.
    pub fn run(&self, request: TaskRequest) -> TaskFuture {
        self.0.call(request)
    }
}

struct Cloned<S>(S);

impl<S> ErasedService for Cloned<S>
where
    S: Service<TaskRequest, Response = TaskOutput> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    fn call(&self, request: TaskRequest) -> TaskFuture {
        let service = self.0.clone();
        Box::pin(async move {
            service
                .oneshot(request)
                .await
                .map_err(|error| TaskError::from_boxed(error.into()))
        })
    }
}

struct Called<F>(F);

impl<F> ErasedService for Called<F>
where
    F: Fn(TaskRequest) -> TaskFuture + Send + Sync,
{
    fn call(&self, request: TaskRequest) -> TaskFuture {
        (self.0)(request)
    }
}

impl Service<TaskRequest> for BoxProcess {
    type Response = TaskOutput;
    type Error = TaskError;
    type Future = TaskFuture;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), TaskError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: TaskRequest) -> TaskFuture {
        self.run(request)
    }
}

impl fmt::Debug for BoxProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxProcess")
    }
}
