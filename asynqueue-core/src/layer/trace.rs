//! A span around each attempt.

use tower_layer::Layer;

use super::{BoxProcess, TaskService};
use crate::trace;

/// Runs each attempt in a `process` span that names the task, so that the handler's log lines carry it too. With the
/// feature `otel` the span belongs to the trace in which the task was enqueued, through
/// [`tracing_opentelemetry`](https://docs.rs/tracing-opentelemetry).
///
/// The server applies it around every handler and its layers.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceLayer;

impl<S: TaskService> Layer<S> for TraceLayer {
    type Service = BoxProcess;

    fn layer(&self, inner: S) -> BoxProcess {
        let inner = inner.boxed();
        BoxProcess::from_fn(move |request| trace::attempt(&inner, request))
    }
}
