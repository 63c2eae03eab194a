//! A span around each attempt.

use tower_layer::Layer;

use super::{BoxProcess, TaskService};
use crate::trace;

/// Runs each attempt in a `process` span that names the task, so that log lines in a handler do too. With the feature `otel`
/// it is part of the trace in which the task was enqueued, in [`tracing_opentelemetry`](https://docs.rs/tracing-opentelemetry).
///
/// The server has it around every process and its layers.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceLayer;

impl<S: TaskService> Layer<S> for TraceLayer {
    type Service = BoxProcess;

    fn layer(&self, inner: S) -> BoxProcess {
        let inner = inner.boxed();
        BoxProcess::from_fn(move |request| trace::attempt(&inner, request))
    }
}
