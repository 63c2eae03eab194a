//! Spans of tasks, by the [conventions](https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/) of
//! OpenTelemetry for messaging.
//!
//! A task that is enqueued carries the context of its `send` span in its headers, and each attempt's `process` span is a
//! child of that: attempts are siblings, and a task that a handler enqueues is a part of the same trace. The spans are
//! there for any [`tracing`] subscriber; what makes them one trace needs the feature `otel`.

#[cfg(feature = "otel")]
mod otel;

#[cfg(feature = "otel")]
use opentelemetry::trace::FutureExt;
#[cfg(feature = "otel")]
use tracing::level_filters::LevelFilter;
use tracing::{Span, info_span};

use crate::{
    broker::Group,
    layer::{TaskFuture, TaskOutput},
    process::{Context, TaskError},
    task::{Envelope, Headers, Name},
};

/// The header of the W3C that names a trace and a span.
const TRACEPARENT: &str = "traceparent";

/// The span of enqueueing `count` tasks to one queue, which they are going to carry.
pub(crate) fn send<'a>(
    queue: &Name,
    count: usize,
    tasks: impl Iterator<Item = &'a mut Envelope>,
) -> Span {
    let span = info_span!("send", otel.kind = "producer");
    #[cfg(feature = "otel")]
    otel::send(&span, queue, count, tasks);
    #[cfg(not(feature = "otel"))]
    let _ = (queue, count, tasks);
    span
}

/// Notes on a `send` span that its tasks may not have come to the broker.
pub(crate) fn not_sent(span: &Span, error: &dyn std::fmt::Display) {
    #[cfg(feature = "otel")]
    otel::failed(span, "broker", &error.to_string(), None);
    #[cfg(not(feature = "otel"))]
    let _ = (span, error);
}

/// Lets the task that a group has become tell of its members.
pub(crate) fn link(task: &mut Envelope, group: &Group) {
    #[cfg(feature = "otel")]
    otel::link(task, group);
    #[cfg(not(feature = "otel"))]
    let _ = (task, group);
}

/// The span of one attempt.
pub(crate) fn process(context: &Context) -> Span {
    let span = info_span!(
        "process",
        otel.kind = "consumer",
        messaging.message.id = context.id().as_str(),
        trace_id = trace_of(context.headers())
    );
    #[cfg(feature = "otel")]
    if !span.is_disabled() {
        otel::process(&span, context);
    }
    span
}

/// Keeps an attempt without a span in its trace, so that what is sampled or not by then stays so.
pub(crate) fn carried(context: &Context, attempt: TaskFuture) -> TaskFuture {
    #[cfg(feature = "otel")]
    if LevelFilter::current() != LevelFilter::OFF
        && let Some(parent) = otel::extract(context.headers())
    {
        return Box::pin(attempt.with_context(parent));
    }
    #[cfg(not(feature = "otel"))]
    let _ = context;
    attempt
}

/// Notes what came of an attempt.
pub(crate) fn processed(span: &Span, context: &Context, result: &Result<TaskOutput, TaskError>) {
    #[cfg(feature = "otel")]
    if let Err(error) = result {
        otel::processed(span, context, error);
    }
    #[cfg(not(feature = "otel"))]
    let _ = (span, context, result);
}

/// Notes that an attempt was given up, and its outcome is told elsewhere.
pub(crate) fn given_up(span: &Span) {
    #[cfg(feature = "otel")]
    otel::failed(span, "given_up", "the handler was given up", None);
    #[cfg(not(feature = "otel"))]
    let _ = span;
}

/// The span of an attempt that ended before its process began.
pub(crate) fn refused(context: &Context, error: &TaskError) {
    let span = process(context);
    #[cfg(feature = "otel")]
    otel::processed(&span, context, error);
    let _ = (span, error);
}

/// The id of the trace that headers tell of.
fn trace_of(headers: &Headers) -> Option<&str> {
    headers.get(TRACEPARENT)?.get(3..35)
}
