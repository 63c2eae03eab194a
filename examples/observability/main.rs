//! Observability: one trace contains the web request of an order and its two tasks, and the same server exposes metrics
//! and health: `cargo run --bin observability`, then
//!
//! ```sh
//! curl -i -X POST localhost:3000/orders -H 'content-type: application/json' -d '{"customer": "ada", "lines": 3}'
//! curl localhost:3000/metrics  # for Prometheus
//! curl localhost:3000/readyz   # 503 while the broker is unavailable
//! ```
//!
//! Spans go to an OTLP collector, such as Jaeger or Grafana Alloy, at `localhost:4317` or
//! `OTEL_EXPORTER_OTLP_ENDPOINT`. The first two arguments are the address to listen on and the URL of the broker.

mod shop;
mod telemetry;

use asynqueue::{metrics, prelude::*};
use axum::{Router, middleware, routing::post};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:3000".into());
    let url = args.next().unwrap_or_else(|| "memory:".into());

    let traces = telemetry::start()?;
    // Before the broker connects, so that all of its metrics are recorded.
    let metrics = metrics::install()?;
    let broker = asynqueue::connect(&url).await?;
    let producer = Producer::new(broker.clone());
    let server = Server::builder(broker.clone())
        .queue("orders", 3)
        .queue("mail", 1)
        .state(producer.clone())
        .process(shop::pack)
        .process(shop::send_invoice)
        .start()
        .await?;

    let shop = Router::new()
        .route("/orders", post(shop::place_order))
        .layer(middleware::from_fn(telemetry::trace_request))
        .with_state(producer);
    let app = shop.merge(metrics.broker(broker).router());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(shutdown_signal())
        .await?;
    server.shutdown().await?;
    // Exports the remaining spans.
    Ok(traces.shutdown()?)
}
