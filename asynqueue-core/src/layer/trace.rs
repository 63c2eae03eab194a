//! A span around each attempt.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tower::Layer;
use tracing::{Instrument, Span};

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
        BoxProcess::from_fn(move |request| {
            let span = trace::process(&request.context);
            let context = request.context.clone();
            if span.is_disabled() {
                return trace::carried(&context, inner.run(request));
            }
            let attempt = span.in_scope(|| inner.run(request));
            Box::pin(async move {
                let unended = Unended(Some(span.clone()));
                let result = attempt.instrument(span).await;
                if let Some(span) = unended.ended() {
                    // An error's text is made by code of the user's.
                    let note = || trace::processed(&span, &context, &result);
                    let _ = catch_unwind(AssertUnwindSafe(note));
                }
                result
            })
        })
    }
}

/// A span that is dropped in the middle, as with a handler that is given up.
struct Unended(Option<Span>);

impl Unended {
    fn ended(mut self) -> Option<Span> {
        self.0.take()
    }
}

impl Drop for Unended {
    fn drop(&mut self) {
        if let Some(span) = &self.0 {
            trace::given_up(span);
        }
    }
}
