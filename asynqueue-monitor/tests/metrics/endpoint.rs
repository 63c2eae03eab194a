//! The metrics endpoint over HTTP.

use std::time::Duration;

use asynqueue_core::{broker::Control, memory::MemoryBroker};
use asynqueue_monitor::metrics::{Endpoint, install, serve};

async fn get(endpoint: &Endpoint, path: &str) -> (u16, String) {
    let url = format!("http://{}{path}", endpoint.address());
    let response = reqwest::get(url).await.expect("a response");
    let status = response.status().as_u16();
    (status, response.text().await.expect("text"))
}

#[tokio::test]
async fn metrics_and_health_are_served() {
    let endpoint = serve("127.0.0.1:0").await.expect("served");
    let url = format!("http://{}/metrics", endpoint.address());
    let response = reqwest::get(url).await.expect("a response");
    let kind = response.headers()["content-type"]
        .to_str()
        .expect("text")
        .to_owned();
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(get(&endpoint, "/livez").await, (200, "ok\n".into()));
    assert_eq!(get(&endpoint, "/readyz").await, (200, "ok\n".into()));
    assert_eq!(get(&endpoint, "/").await.0, 404);
    endpoint.shutdown().await;
}

#[tokio::test]
async fn an_unavailable_broker_fails_readiness_and_metrics_are_still_served() {
    let broker = MemoryBroker::new();
    let exporter = install().expect("installed").broker(broker.clone());
    let endpoint = exporter.serve("127.0.0.1:0").await.expect("served");
    assert_eq!(get(&endpoint, "/readyz").await, (200, "ok\n".into()));
    assert!(
        get(&endpoint, "/metrics")
            .await
            .1
            .contains("\nasynqueue_broker_up 1\n")
    );
    Control::close(&broker).await;
    let (status, reason) = get(&endpoint, "/readyz").await;
    assert_eq!(
        (status, &*reason),
        (503, "the broker is closed: connect again to continue\n")
    );
    assert_eq!(get(&endpoint, "/livez").await, (200, "ok\n".into()));
    let (status, text) = get(&endpoint, "/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("\nasynqueue_broker_up 0\n"), "{text}");
    endpoint.shutdown().await;
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let endpoint = serve("127.0.0.1:0").await.expect("served");
    let taken = endpoint.address();
    let error = serve(taken).await.expect_err("taken");
    let expected = format!(
        "metrics: cannot listen on `{taken}`: address already in use: stop the other program, or choose another address"
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(format!("{error:?}"), expected, "the cause is printed once");
    for (address, example) in [
        ("nowhere", "127.0.0.1:8080"),
        ("9477", "127.0.0.1:9477"),
        (":9477", "127.0.0.1:9477"),
        ("127.0.0.1:http", "127.0.0.1:8080"),
    ] {
        let error = serve(address).await.expect_err("no address").to_string();
        assert_eq!(
            error,
            format!(
                "metrics: cannot listen on `{address}`: expected a host and a port, such as `{example}`"
            )
        );
    }
    endpoint.shutdown().await;
}

#[tokio::test]
async fn a_dropped_endpoint_closes_its_listener() {
    let endpoint = serve("127.0.0.1:0").await.expect("served");
    let address = endpoint.address();
    drop(endpoint);
    let closed = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(30), closed).await;
    in_time.expect("the port is closed");
}
