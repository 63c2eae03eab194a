//! The spans that a collector receives.

use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};

use super::{
    collector::{Collector, hex, text},
    shop::Shop,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// The name, kind and parent of each span.
fn tree(spans: &[Span]) -> Vec<(String, SpanKind, String)> {
    let name_of = |id: &[u8]| {
        let parent = spans.iter().find(|span| span.span_id == id);
        parent.map_or_else(|| hex(id), |span| span.name.clone())
    };
    let row = |span: &Span| {
        (
            span.name.clone(),
            span.kind(),
            name_of(&span.parent_span_id),
        )
    };
    spans.iter().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_request_and_its_tasks_are_one_trace() {
    let collector = Collector::start().await;
    let shop = Shop::start("memory:", &collector.url);
    let id = shop
        .order(12, Some(&format!("00-{TRACE}-{CALLER}-01")))
        .await;
    let spans = collector.trace(TRACE, 6).await;
    let expected = [
        ("POST /orders", SpanKind::Server, CALLER),
        ("send orders", SpanKind::Producer, "POST /orders"),
        // The first attempt fails.
        ("process orders", SpanKind::Consumer, "send orders"),
        ("process orders", SpanKind::Consumer, "send orders"),
        ("send mail", SpanKind::Producer, "process orders"),
        ("process mail", SpanKind::Consumer, "send mail"),
    ];
    let expected = expected.map(|(name, kind, parent)| (name.to_owned(), kind, parent.to_owned()));
    assert_eq!(tree(&spans), expected);

    let (failed, again) = (&spans[2], &spans[3]);
    for (span, attempt) in [(failed, "1"), (again, "2")] {
        let attribute = |key| text(&span.attributes, key);
        assert_eq!(attribute("messaging.message.id").as_deref(), Some(&*id));
        assert_eq!(attribute("asynqueue.attempt").as_deref(), Some(attempt));
        assert_eq!(attribute("messaging.system").as_deref(), Some("asynqueue"));
    }
    let status = failed.status.clone().expect("a status");
    assert_eq!(
        (status.code(), &*status.message),
        (StatusCode::Error, "the box is too small")
    );
    assert_eq!(failed.events[0].name, "exception");
    assert_eq!(spans[4].parent_span_id, again.span_id);
    assert_eq!(spans[0].flags & 1, 1, "sampled");
}

#[tokio::test(flavor = "multi_thread")]
async fn unsampled_traces_send_no_spans() {
    let collector = Collector::start().await;
    let shop = Shop::start("memory:", &collector.url);
    shop.order(1, Some(&format!("00-{TRACE}-{CALLER}-00")))
        .await;
    // A sampled trace follows through the same exporter.
    let sampled = TRACE.replace("4bf9", "ffff");
    shop.order(1, Some(&format!("00-{sampled}-{CALLER}-01")))
        .await;
    collector.trace(&sampled, 5).await;
    assert_eq!(collector.count(), 5);
}
