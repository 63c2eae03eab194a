//! Spans of tasks, by the [conventions](https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/) of
//! OpenTelemetry for messaging.
//!
//! A task that is enqueued carries the context of its `send` span in its headers, and each attempt's `process` span is a
//! child of that: attempts are siblings, and a task that a handler enqueues is a part of the same trace. The spans are
//! there for any [`tracing`] subscriber; what makes them one trace needs the feature `otel`.

mod attempt;
#[cfg(feature = "otel")]
mod otel;

use tracing::{Span, info_span, level_filters::LevelFilter};

pub(crate) use self::attempt::{attempt, refused};
use crate::{
    broker::{Group, Settlement},
    task::{Envelope, Headers, Name},
};

/// The header of the W3C that names a trace and a span.
const TRACEPARENT: &str = "traceparent";

/// The header of the W3C for what tracing systems add to that.
const TRACESTATE: &str = "tracestate";

/// The header of the W3C for values that belong to a trace.
const BAGGAGE_HEADER: &str = "baggage";

/// Whether a header belongs to the trace of a task.
pub(crate) fn is_trace_header(key: &str) -> bool {
    matches!(key, TRACEPARENT | TRACESTATE | BAGGAGE_HEADER)
}

/// Puts a task that names no trace into the one that these headers name.
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

/// The span of enqueueing `count` tasks to one queue, which they are going to carry.
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
    if !is_off() {
        otel::link(task, group);
    }
    #[cfg(not(feature = "otel"))]
    let _ = (task, group);
}

/// Lets the next attempt be part of the same trace, where the task came without one.
pub(crate) fn carry_on(span: &Span, settlement: &mut Settlement) {
    #[cfg(feature = "otel")]
    if !span.is_disabled() && settlement.outcome != crate::broker::Outcome::Drop {
        otel::carry_on(span, &mut settlement.envelope);
    }
    #[cfg(not(feature = "otel"))]
    let _ = (span, settlement);
}

/// Whether nobody listens to anything.
fn is_off() -> bool {
    LevelFilter::current() == LevelFilter::OFF
}

/// The id of the trace that headers tell of.
pub(crate) fn trace_of(headers: &Headers) -> Option<&str> {
    headers.get(TRACEPARENT)?.get(3..35)
}
