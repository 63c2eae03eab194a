//! Links the spans into one trace: context in headers, and OpenTelemetry's attributes.
//!
//! Attributes are set only on sampled spans, so that the others cost little.

use std::sync::{Arc, LazyLock};

use opentelemetry::{
    Context as OtelContext, KeyValue,
    baggage::BaggageExt,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanContext, Status, TraceContextExt},
};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{BAGGAGE_HEADER, TRACEPARENT};
use crate::{
    broker::Group,
    process::{Context, TaskError, TaskErrorKind},
    task::{Envelope, Headers, Name},
};

/// The header with the spans that sent the members of a group, one per line.
const LINKS: &str = "asynqueue-links";

/// The default maximum of links per span in OpenTelemetry's SDKs.
const MAX_LINKS: usize = 128;

static TRACE: LazyLock<TraceContextPropagator> = LazyLock::new(TraceContextPropagator::new);
static BAGGAGE: LazyLock<BaggagePropagator> = LazyLock::new(BaggagePropagator::new);

pub(super) fn send<'a>(
    queue: &Name,
    count: usize,
    tasks: impl Iterator<Item = &'a mut Envelope>,
) -> Span {
    let current = OtelContext::current();
    if is_unsampled(&current) {
        // A span would reach no subscriber.
        carry(&current, tasks);
        return Span::none();
    }
    let span = super::send_span();
    let own = span.context();
    let otel = own.span();
    if !otel.span_context().is_valid() {
        // This span is disabled, but an enclosing one may be enabled.
        let around = Span::current().context();
        let is_seen = around.span().span_context().is_valid();
        carry(if is_seen { &around } else { &current }, tasks);
        return span;
    }
    let (last, size) = carry(&own, tasks);
    if let (true, Some(task)) = (otel.is_recording(), last) {
        let count = match count {
            1 => KeyValue::new("messaging.message.id", task.id.to_string()),
            n => KeyValue::new("messaging.batch.message_count", n as i64),
        };
        otel.update_name(format!("send {queue}"));
        otel.set_attributes(common("enqueue", "send", task));
        otel.set_attributes([
            count,
            KeyValue::new("messaging.message.body.size", size as i64),
        ]);
    }
    span
}

/// Adds a context to the headers of tasks. Returns the last task and the size of all payloads.
fn carry<'a>(
    context: &OtelContext,
    tasks: impl Iterator<Item = &'a mut Envelope>,
) -> (Option<&'a Envelope>, usize) {
    let headers = inject(context);
    let (mut last, mut size) = (None, 0);
    for task in tasks {
        size += task.payload.len();
        if task.headers.is_empty() {
            task.headers = headers.clone();
        } else if task.headers.get(TRACEPARENT).is_none() {
            // A context set by the caller takes precedence.
            for (key, value) in headers.iter() {
                task.headers.insert(key, value);
            }
        }
        last = Some(&*task);
    }
    (last, size)
}

/// Adds the context of an attempt to the headers of its task, unless they contain a trace.
pub(super) fn carry_on(span: &Span, task: &mut Arc<Envelope>) {
    let names_a_trace =
        |headers| extract(headers).is_some_and(|context| context.span().span_context().is_valid());
    let context = span.context();
    if context.span().span_context().is_valid() && !names_a_trace(&task.headers) {
        let task = Arc::make_mut(task);
        for (key, value) in inject(&context).iter() {
            task.headers.insert(key, value);
        }
    }
}

fn is_unsampled(context: &OtelContext) -> bool {
    let span = context.span();
    let span = span.span_context();
    span.is_valid() && !span.is_sampled()
}

/// The context that a task was enqueued in, if it was not sampled.
pub(super) fn unsampled(headers: &Headers) -> Option<OtelContext> {
    // Recognizes almost all sampled ones at little cost.
    if headers.get(TRACEPARENT)?.ends_with('1') {
        return None;
    }
    extract(headers).filter(is_unsampled)
}

pub(super) fn process(span: &Span, context: &Context) {
    let (task, headers) = (context.envelope(), context.headers());
    if let Some(parent) = extract(headers) {
        // Fails if no layer connects to OpenTelemetry.
        let _ = span.set_parent(parent);
    }
    for link in headers.get(LINKS).unwrap_or_default().lines() {
        let sender = Carrier(&Headers::from_iter([(TRACEPARENT, link)])).span_context();
        span.add_link(sender);
    }
    let otel = span.context();
    let otel = otel.span();
    if super::trace_of(headers).is_none() && otel.span_context().is_valid() {
        span.record("trace_id", otel.span_context().trace_id().to_string());
    }
    if otel.is_recording() {
        otel.update_name(format!("process {}", task.queue));
        otel.set_attributes(common("process", "process", task));
        otel.set_attributes([
            KeyValue::new("messaging.message.id", task.id.to_string()),
            KeyValue::new("messaging.message.body.size", task.payload.len() as i64),
            KeyValue::new("messaging.client.id", context.worker().to_string()),
            KeyValue::new("asynqueue.attempt", i64::from(context.attempt())),
        ]);
    }
}

fn common(name: &'static str, kind: &'static str, task: &Envelope) -> [KeyValue; 5] {
    [
        KeyValue::new("messaging.system", "asynqueue"),
        KeyValue::new("messaging.operation.name", name),
        KeyValue::new("messaging.operation.type", kind),
        KeyValue::new("messaging.destination.name", task.queue.to_string()),
        KeyValue::new("asynqueue.event", task.event.to_string()),
    ]
}

pub(super) fn processed(span: &Span, context: &Context, error: &TaskError) {
    match error.kind() {
        TaskErrorKind::Snooze(_) => note(span, "snoozed"),
        TaskErrorKind::Revoke => note(span, "revoked"),
        _ if context.releases(error) => note(span, "released"),
        _ => {
            let kind = error.failure_kind().as_str();
            failed(span, kind, &error.message(), error.backtrace());
        }
    }
}

/// Records an outcome that is neither success nor failure.
fn note(span: &Span, outcome: &'static str) {
    let context = span.context();
    context
        .span()
        .set_attribute(KeyValue::new("asynqueue.outcome", outcome));
}

pub(super) fn failed(span: &Span, kind: &'static str, message: &str, backtrace: Option<&str>) {
    let context = span.context();
    let otel = context.span();
    if !otel.is_recording() {
        return;
    }
    let mut exception = vec![
        KeyValue::new("exception.type", kind),
        KeyValue::new("exception.message", message.to_owned()),
    ];
    if let Some(backtrace) = backtrace {
        exception.push(KeyValue::new("exception.stacktrace", backtrace.to_owned()));
    }
    otel.add_event("exception", exception);
    otel.set_attribute(KeyValue::new("error.type", kind));
    otel.set_status(Status::error(message.to_owned()));
}

pub(super) fn link(task: &mut Envelope, group: &Group) {
    let senders = group
        .members
        .iter()
        .filter_map(|member| member.headers.get(TRACEPARENT));
    let senders: Vec<_> = senders.take(MAX_LINKS).collect();
    if !senders.is_empty() {
        task.headers.insert(LINKS, senders.join("\n"));
    }
}

/// The context that a task was enqueued in.
pub(super) fn extract(headers: &Headers) -> Option<OtelContext> {
    headers
        .get(TRACEPARENT)
        .or_else(|| headers.get(BAGGAGE_HEADER))?;
    let carrier = Carrier(headers);
    let context = TRACE.extract_with_context(&OtelContext::new(), &carrier);
    Some(match headers.get(BAGGAGE_HEADER) {
        Some(_) => BAGGAGE.extract_with_context(&context, &carrier),
        None => context,
    })
}

/// A context as headers.
fn inject(context: &OtelContext) -> Headers {
    let mut headers = Injected(Headers::default());
    if context.span().span_context().is_valid() {
        TRACE.inject_context(context, &mut headers);
    }
    if !context.baggage().is_empty() {
        BAGGAGE.inject_context(context, &mut headers);
    }
    headers.0
}

struct Injected(Headers);

impl Injector for Injected {
    fn set(&mut self, key: &str, value: String) {
        // An empty trace state has no meaning.
        if !value.is_empty() {
            self.0.insert(key, value);
        }
    }
}

struct Carrier<'a>(&'a Headers);

impl Carrier<'_> {
    fn span_context(&self) -> SpanContext {
        let context = TRACE.extract_with_context(&OtelContext::new(), self);
        context.span().span_context().clone()
    }
}

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(key, _)| key).collect()
    }
}
