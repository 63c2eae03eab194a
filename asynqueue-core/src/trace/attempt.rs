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

/// The environment of an attempt.
struct Traced {
    span: Span,
    /// Also attached if the span is invisible to OpenTelemetry: what the handler starts belongs to the same trace, with
    /// the same sampling decision.
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

    /// Independent of whether the handler completes or is dropped: the outcome has already been decided.
    fn abandoned(&self) {
        #[cfg(feature = "otel")]
        otel::failed(&self.span, "abandoned", "the handler was abandoned", None);
    }

    fn inside<R>(&self, f: impl FnOnce() -> R) -> R {
        #[cfg(feature = "otel")]
        let _attached = self.carried.clone().map(opentelemetry::Context::attach);
        self.span.in_scope(f)
    }
}

/// The future of an attempt. Not `Instrument`, which enters the span once more on drop: this runs for every task.
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
            this.traced.abandoned();
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
    /// An abandoned handler ends here if it is waiting.
    fn drop(&mut self) {
        if let Progress::GoesOn(_) = &self.progress {
            let progress = &mut self.progress;
            self.traced.inside(|| *progress = Progress::Ended);
            self.traced.abandoned();
        }
    }
}

/// The span of an attempt that ended before its handler started.
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

/// A span of a trace that is not sampled, only for log lines. Its target lets layers filter it out.
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

/// Records in its span how an attempt failed, and keeps the span open until the outcome is decided.
fn note(span: &Span, context: &Context, error: &TaskError) {
    #[cfg(feature = "otel")]
    // The text of an error comes from user code.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| otel::processed(span, context, error))) {
        crate::layer::discard(payload);
    }
    let _ = error;
    context.keep_span(span.clone());
}
