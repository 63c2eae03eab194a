//! Logs and traces.

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use opentelemetry::{global, trace::TracerProvider};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::{Instrument, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// Sends spans to a collector, and writes log lines to standard error.
pub(crate) fn start() -> Result<SdkTracerProvider, ExporterBuildError> {
    global::set_text_map_propagator(TraceContextPropagator::new());
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name("shop").build())
        .with_batch_exporter(SpanExporter::builder().with_tonic().build()?)
        .build();
    // Spans of unsampled traces exist for log lines only.
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("shop"))
        .with_filter(EnvFilter::new("info,asynqueue::unsampled=off"));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_filter(EnvFilter::new("info"));
    tracing_subscriber::registry()
        .with(traces)
        .with(lines)
        .init();
    Ok(provider)
}

/// Creates a span for each request, in the trace of its caller.
pub(crate) async fn trace_request(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("", MatchedPath::as_str);
    let span = info_span!(
        "request",
        otel.name = format!("{} {route}", request.method()),
        otel.kind = "server",
        http.request.method = %request.method(),
        http.route = route,
    );
    let headers = HeaderExtractor(request.headers());
    let caller = global::get_text_map_propagator(|propagator| propagator.extract(&headers));
    // Fails only if the span is disabled.
    let _ = span.set_parent(caller);
    next.run(request).instrument(span).await
}
