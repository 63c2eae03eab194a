//! The request type of handlers, and a type-erased service over it.

use std::{
    any::Any,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
};

use bytes::Bytes;
use futures_util::future::{MapErr, TryFutureExt};
use tower_layer::Layer;
use tower_service::Service;

use super::{CatchPanicLayer, archived::ArchiveHooks, gate::Gates};
use crate::process::{Context, StdTaskError, TaskError};

/// One attempt at one task, on its way through the layers to the handler.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskRequest {
    /// The context of the attempt. The encoded payload is in its [envelope](Context::envelope).
    pub context: Context,
}

/// The output of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskOutput {
    /// The output of the handler, encoded with the task's codec. `None` if it has none.
    pub result: Option<Bytes>,
}

impl TaskRequest {
    /// Creates a request for an attempt with this context.
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

impl TaskOutput {
    /// Creates an output. `result` is encoded with the task's codec.
    pub fn new(result: Option<Bytes>) -> Self {
        Self { result }
    }
}

/// The future of an attempt.
pub type TaskFuture = Pin<Box<dyn Future<Output = Result<TaskOutput, TaskError>> + Send>>;

/// A [`tower::Service`](Service) over tasks, which a layer returns. Implemented for every service that
///
/// 1. takes a [`TaskRequest`] and returns a [`TaskOutput`],
/// 2. is `Clone`, `Send` and `Sync`, with a future that is `Send`,
/// 3. and has an error that converts into a [`TaskError`], such as a boxed error.
pub trait TaskService: 'static {
    /// Erases the type. Each attempt runs on a clone of the service, after that is ready.
    fn boxed(self) -> BoxProcess;
}

impl<S> TaskService for S
where
    S: Service<TaskRequest, Response = TaskOutput> + Clone + Send + Sync + 'static,
    S::Error: Into<TaskError>,
    S::Future: Send,
{
    fn boxed(self) -> BoxProcess {
        if let Some(boxed) = (&self as &dyn Any).downcast_ref::<BoxProcess>() {
            return boxed.clone();
        }
        BoxProcess::from_fn(move |request| {
            let mut service = self.clone();
            Box::pin(async move {
                let ready = poll_fn(|cx| service.poll_ready(cx)).await;
                ready.map_err(Into::into)?;
                let attempt = service.call(request);
                // What it holds for this call alone, such as a permit, is the future's from here.
                drop(service);
                attempt.await.map_err(Into::into)
            })
        })
    }
}

/// A type-erased handler with its layers. Cheap to clone.
#[derive(Clone)]
pub struct BoxProcess {
    run: Arc<dyn Fn(TaskRequest) -> TaskFuture + Send + Sync>,
    /// Called for its archived tasks.
    hooks: ArchiveHooks,
    gates: Gates,
}

impl BoxProcess {
    /// Creates an always ready service from a function.
    pub(crate) fn from_fn(run: impl Fn(TaskRequest) -> TaskFuture + Send + Sync + 'static) -> Self {
        Self {
            run: Arc::new(run),
            hooks: ArchiveHooks::default(),
            gates: Gates::default(),
        }
    }

    /// Replaces the gates that admit tasks.
    pub(super) fn behind(self, gates: Gates) -> Self {
        Self { gates, ..self }
    }

    /// The limits that a task passes before its attempt.
    pub(crate) fn gates(&self) -> &Gates {
        &self.gates
    }

    /// Applies a layer, and catches the panics of that layer too.
    pub(crate) fn wrap<L>(self, layer: &L) -> Self
    where
        L: Layer<Self, Service: TaskService>,
    {
        self.within(layer).within(&CatchPanicLayer)
    }

    /// Applies a layer, and keeps the gates and hooks visible through it.
    pub(crate) fn within<L>(self, layer: &L) -> Self
    where
        L: Layer<Self, Service: TaskService>,
    {
        let (gates, hooks) = (self.gates.clone(), self.hooks.clone());
        let (outer, hooks) = hooks.with_hooks_of(|| layer.layer(self).boxed());
        let gates = outer.gates.clone().or(&gates);
        outer.behind(gates).with_hooks(hooks)
    }

    /// Runs one attempt.
    pub fn run(&self, request: TaskRequest) -> TaskFuture {
        (self.run)(request)
    }

    /// The hooks around it, called for its archived tasks.
    pub(crate) fn hooks(&self) -> &ArchiveHooks {
        &self.hooks
    }

    pub(crate) fn with_hooks(self, hooks: ArchiveHooks) -> Self {
        Self { hooks, ..self }
    }
}

/// The error type is one that layers of other crates can box, as many of tower's do.
impl Service<TaskRequest> for BoxProcess {
    type Response = TaskOutput;
    type Error = StdTaskError;
    type Future = MapErr<TaskFuture, fn(TaskError) -> StdTaskError>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), StdTaskError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: TaskRequest) -> Self::Future {
        self.run(request).map_err(TaskError::into_std)
    }
}

impl fmt::Debug for BoxProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxProcess")
    }
}
