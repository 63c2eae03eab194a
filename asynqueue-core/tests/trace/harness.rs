//! A subscriber that keeps spans, and methods to inspect them.

use std::time::Duration;

use opentelemetry::{
    KeyValue, Value,
    trace::{SpanId, TracerProvider},
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, Sampler, SdkTracerProvider, SpanData};
use tracing::dispatcher::{self, DefaultGuard, Dispatch};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt};

/// The spans since its creation. The runtime of a test has one thread, which uses this subscriber.
pub(crate) struct Traced {
    provider: SdkTracerProvider,
    exporter: InMemorySpanExporter,
    pub(crate) dispatch: Dispatch,
    _default: DefaultGuard,
}

impl Traced {
    /// Samples everything, except spans with an unsampled parent.
    pub(crate) fn new() -> Self {
        Self::with(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)), "trace")
    }

    /// `filter` selects the enabled spans.
    pub(crate) fn with(sampler: Sampler, filter: &str) -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_simple_exporter(exporter.clone())
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let filter = EnvFilter::new(filter);
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(filter).with(layer));
        Self {
            provider,
            exporter,
            _default: dispatcher::set_default(&dispatch),
            dispatch,
        }
    }

    /// The ended spans, in the order they started.
    pub(crate) fn spans(&self) -> Vec<SpanData> {
        self.provider.force_flush().expect("flushed");
        let mut spans = self.exporter.get_finished_spans().expect("spans");
        spans.sort_by_key(|span| span.start_time);
        spans
    }

    /// The one span of this name.
    pub(crate) fn span(&self, name: &str) -> SpanData {
        let mut named = self.named(name);
        assert_eq!(named.len(), 1, "{name}: {:?}", tree(&self.spans()));
        named.remove(0)
    }

    pub(crate) fn named(&self, name: &str) -> Vec<SpanData> {
        let mut spans = self.spans();
        spans.retain(|span| span.name == name);
        spans
    }

    /// Waits for a span of this name to end.
    pub(crate) async fn until_there_is(&self, name: &str) {
        let ended = async {
            while self.named(name).is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(30), ended).await;
        in_time.expect("it ends");
    }

    /// The spans of all traces, each after its ancestors.
    pub(crate) fn tree(&self) -> Vec<String> {
        tree(&self.spans())
    }
}

fn tree(spans: &[SpanData]) -> Vec<String> {
    let path = |span: &SpanData| {
        let (mut path, mut parent) = (span.name.to_string(), span.parent_span_id);
        while parent != SpanId::INVALID {
            let found = spans
                .iter()
                .find(|span| span.span_context.span_id() == parent);
            let name = found.map_or("elsewhere", |span| &span.name);
            path = format!("{name} > {path}");
            parent = found.map_or(SpanId::INVALID, |span| span.parent_span_id);
        }
        path
    };
    spans.iter().map(path).collect()
}

/// An attribute as text.
pub(crate) fn attribute(span: &SpanData, key: &str) -> Option<String> {
    value(&span.attributes, key)
}

pub(crate) fn value(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|pair| pair.key.as_str() == key)?;
    Some(match &found.value {
        Value::String(text) => text.to_string(),
        other => other.to_string(),
    })
}
