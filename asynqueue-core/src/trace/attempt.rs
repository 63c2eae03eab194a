//! The span of an attempt.

#[cfg(feature = "otel")]
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{
    future::Future,
    pin::Pin,
    task::{Poll, ready},
};

use tracing::{Span, info_span};

#[cfg(feature = "otel")]
use super::otel;
use super::{is_off, trace_of};
use crate::{
    layer::{BoxProcess, TaskFuture, TaskOutput, TaskRequest},
    process::{Context, TaskError},
};

/// Runs an attempt in its span.
pub(crate) fn attempt(process: &BoxProcess, request: TaskRequest) -> TaskFuture {
    if is_off() {
        return process.run(request);
    }
    let traced = Traced::of(&request.context);
    if traced.is_nothing() {
        return process.run(request);
    }
    let context = request.context.clone();
    Box::pin(Attempt {
        progress: Progress::Begins(process.clone(), request),
        traced,
        context,
    })
}

/// What an attempt runs in.
struct Traced {
    span: Span,
    /// Attached too where the span is not there for OpenTelemetry to see: what the handler begins belongs to the same trace,
    /// and is sampled or not as that was.
    #[cfg(feature = "otel")]
    carried: Option<opentelemetry::Context>,
}

impl Traced {
    #[cfg(feature = "otel")]
    fn of(context: &Context) -> Self {
        if let Some(carried) = otel::unsampled(context.headers()) {
            let _attached = carried.clone().attach();
            return Self {
                span: unsampled_span(context),
                carried: Some(carried),
            };
        }
        let span = process_span(context);
        let carried = match span.is_disabled() {
            true => otel::extract(context.headers()),
            false => None,
        };
        Self { span, carried }
    }

    #[cfg(not(feature = "otel"))]
    fn of(context: &Context) -> Self {
        Self {
            span: process_span(context),
        }
    }

    fn is_nothing(&self) -> bool {
        #[cfg(feature = "otel")]
        if self.carried.is_some() {
            return false;
        }
        self.span.is_disabled()
    }

    /// Whatever the handler comes to, or it is dropped in the middle: its outcome was decided before.
    fn given_up(&self) {
        #[cfg(feature = "otel")]
        otel::failed(&self.span, "given up", "the handler was given up", None);
    }

    fn inside<R>(&self, f: impl FnOnce() -> R) -> R {
        #[cfg(feature = "otel")]
        let _attached = self.carried.clone().map(opentelemetry::Context::attach);
        self.span.in_scope(f)
    }
}

/// The future of an attempt. Not `Instrument`, which enters the span once more when the future is dropped: this is done for
/// every task.
struct Attempt {
    progress: Progress,
    traced: Traced,
    context: Context,
}

enum Progress {
    Begins(BoxProcess, TaskRequest),
    GoesOn(TaskFuture),
    Ended,
}

impl Future for Attempt {
    type Output = Result<TaskOutput, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let progress = &mut this.progress;
        let result = ready!(this.traced.inside(|| progress.poll(cx)));
        if this.context.is_abandoned() {
            this.traced.given_up();
        } else if let Err(error) = &result {
            note(&this.traced.span, &this.context, error);
        }
        Poll::Ready(result)
    }
}

impl Progress {
    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<TaskOutput, TaskError>> {
        if let Self::Begins(process, request) = self {
            *self = Self::GoesOn(process.run(request.clone()));
        }
        let Self::GoesOn(attempt) = self else {
            return Poll::Pending;
        };
        let result = ready!(attempt.as_mut().poll(cx));
        *self = Self::Ended;
        Poll::Ready(result)
    }
}

impl Drop for Attempt {
    /// A handler that was given up ends here if it waits.
    fn drop(&mut self) {
        if let Progress::GoesOn(_) = &self.progress {
            let progress = &mut self.progress;
            self.traced.inside(|| *progress = Progress::Ended);
            self.traced.given_up();
        }
    }
}

/// The span of an attempt that ended before its process began.
pub(crate) fn refused(context: &Context, error: &TaskError) {
    if !is_off() {
        note(&process_span(context), context, error);
    }
}

fn process_span(context: &Context) -> Span {
    let span = info_span!(
        "process",
        otel.kind = "consumer",
        event = context.event().as_str(),
        queue = context.queue().as_str(),
        id = context.id().as_str(),
        attempt = context.attempt(),
        trace_id = trace_of(context.headers())
    );
    #[cfg(feature = "otel")]
    if !span.is_disabled() {
        otel::process(&span, context);
    }
    span
}

/// For log lines only, of a trace that is not sampled. Its target lets it be kept from layers that have no use for it.
#[cfg(feature = "otel")]
fn unsampled_span(context: &Context) -> Span {
    info_span!(
        target: "asynqueue::unsampled",
        "process",
        event = context.event().as_str(),
        queue = context.queue().as_str(),
        id = context.id().as_str(),
        attempt = context.attempt(),
        trace_id = trace_of(context.headers())
    )
}

/// Notes on its span how an attempt has failed, and keeps the span open until its outcome is decided.
fn note(span: &Span, context: &Context, error: &TaskError) {
    #[cfg(feature = "otel")]
    // An error's text is made by code of the user's.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| otel::processed(span, context, error))) {
        crate::layer::discard(payload);
    }
    let _ = error;
    context.keep_span(span.clone());
}
