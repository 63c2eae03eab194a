//! A collector that receives spans over OTLP and gRPC.

use std::sync::Arc;

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use parking_lot::Mutex;
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

/// Collects spans until it is dropped.
pub(crate) struct Collector {
    pub(crate) url: String,
    received: Received,
    serving: JoinHandle<()>,
}

/// The received spans, each with the name of its service.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut received = self.0.lock();
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let service = text(&attributes, "service.name").unwrap_or_default();
            let spans = resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans);
            received.extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let received = Received::default();
        let service = TraceServiceServer::new(received.clone());
        let serving = tokio::spawn(async move {
            let server = Server::builder().add_service(service);
            let served = server.serve_with_incoming(TcpIncoming::from(listener));
            served.await.expect("served");
        });
        Self {
            url,
            received,
            serving,
        }
    }

    /// Waits for a number of spans of one trace, and returns them by start time.
    pub(crate) async fn trace(&self, id: &str, spans: usize) -> Vec<Span> {
        let of_trace = || {
            let received = self.received.0.lock();
            let in_trace = received
                .iter()
                .filter(|(_, span)| hex(&span.trace_id) == id);
            in_trace.cloned().collect::<Vec<_>>()
        };
        asynqueue_test_servers::eventually(&format!("{spans} spans of {id}"), || async {
            of_trace().len() >= spans
        })
        .await;
        let mut found = of_trace();
        assert!(found.iter().all(|(service, _)| service == "shop"));
        found.sort_by_key(|(_, span)| span.start_time_unix_nano);
        found.into_iter().map(|(_, span)| span).collect()
    }

    /// The number of received spans of all traces.
    pub(crate) fn count(&self) -> usize {
        self.received.0.lock().len()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An attribute as text.
pub(crate) fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|pair| pair.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
