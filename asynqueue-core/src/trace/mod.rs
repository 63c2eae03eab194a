//! Spans of tasks, by the [conventions](https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/) of
//! OpenTelemetry for messaging.
//!
//! An enqueued task carries the context of its `send` span in its headers, and the `process` span of each attempt is a
//! child of it. Attempts are siblings, and tasks enqueued by a handler belong to the same trace. Any [`tracing`]
//! subscriber receives the spans; linking them into one trace requires the feature `otel`.

mod attempt;
#[cfg(feature = "otel")]
mod otel;

use tracing::{Span, info_span, level_filters::LevelFilter};

pub(crate) use self::attempt::{attempt, refused};
use crate::{
    broker::{Group, Settlement},
    task::{Envelope, Headers, Name},
};

/// The W3C header that identifies a trace and a span.
const TRACEPARENT: &str = "traceparent";

/// The W3C header for vendor-specific trace data.
const TRACESTATE: &str = "tracestate";

/// The W3C header for values that belong to a trace.
const BAGGAGE_HEADER: &str = "baggage";

/// Whether a header belongs to the trace of a task.
pub(crate) fn is_trace_header(key: &str) -> bool {
    matches!(key, TRACEPARENT | TRACESTATE | BAGGAGE_HEADER)
}

/// Adds a task without a trace to the trace of these headers.
pub(crate) fn inherit(task: &mut Headers, trace: &Headers) {
    if task.get(TRACEPARENT).is_some() {
        return;
    }
    for (key, value) in trace.iter() {
        if task.get(key).is_none() {
            task.insert(key, value);
        }
    }
}

/// The span of enqueueing `count` tasks to one queue. The tasks will carry it.
pub(crate) fn send<'a>(
    queue: &Name,
    count: usize,
    tasks: impl Iterator<Item = &'a mut Envelope>,
) -> Span {
    if is_off() {
        return Span::none();
    }
    #[cfg(feature = "otel")]
    return otel::send(queue, count, tasks);
    #[cfg(not(feature = "otel"))]
    {
        let _ = (queue, count, tasks);
        send_span()
    }
}

fn send_span() -> Span {
    info_span!("send", otel.kind = "producer")
}

/// Records in a `send` span that its tasks may not have reached the broker.
pub(crate) fn not_sent(span: &Span, error: &dyn std::fmt::Display) {
    #[cfg(feature = "otel")]
    otel::failed(span, "broker", &error.to_string(), None);
    #[cfg(not(feature = "otel"))]
    let _ = (span, error);
}

/// Links the task that a group has become to the traces of its members.
pub(crate) fn link(task: &mut Envelope, group: &Group) {
    #[cfg(feature = "otel")]
    if !is_off() {
        otel::link(task, group);
    }
    #[cfg(not(feature = "otel"))]
    let _ = (task, group);
}

/// Makes the next attempt part of the same trace, if the task came without one.
pub(crate) fn carry_on(span: &Span, settlement: &mut Settlement) {
    #[cfg(feature = "otel")]
    if !span.is_disabled() && settlement.outcome != crate::broker::Outcome::Drop {
        otel::carry_on(span, &mut settlement.envelope);
    }
    #[cfg(not(feature = "otel"))]
    let _ = (span, settlement);
}

/// Whether no subscriber is enabled.
fn is_off() -> bool {
    LevelFilter::current() == LevelFilter::OFF
}

/// The trace id in headers.
pub(crate) fn trace_of(headers: &Headers) -> Option<&str> {
    headers.get(TRACEPARENT)?.get(3..35)
}
