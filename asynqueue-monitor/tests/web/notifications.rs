//! Notifications of problems, to a server that stands for a chat.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{broker::ServerInfo, task::Timestamp};
use asynqueue_monitor::{Monitor, ServeError};
use asynqueue_test_servers::eventually;
use axum::{Json, Router, http::StatusCode, routing::post};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::site::Site;

type Received = Arc<Mutex<Vec<Value>>>;

/// A server that records requests at `/secret` and refuses others. Returns its address.
async fn chat() -> (String, Received) {
    let received = Received::default();
    let record = {
        let received = Arc::clone(&received);
        post(move |Json(body): Json<Value>| async move {
            received.lock().push(body);
            StatusCode::OK
        })
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().route("/secret", record);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}"), received)
}

fn with(url: &str, path: &str) -> impl FnOnce(Monitor) -> Monitor {
    let url = format!("{url}{path}");
    move |monitor| {
        monitor
            .webhook(&url)
            .expect("a URL")
            .slack(&url)
            .expect("a URL")
    }
}

#[tokio::test]
async fn a_test_is_sent_from_the_page_of_settings_and_by_the_api() {
    let (url, received) = chat().await;
    let site = Site::of(with(&url, "/secret")).await;
    let page = site.page("/settings").await;
    assert!(page.contains("JSON, <code>127.0.0.1</code>"), "{page}");
    assert!(!page.contains("secret"), "the path may be a password");
    let (status, to) = site.post("/settings/webhooks/0", "").await;
    assert_eq!(
        (status, to.as_str()),
        (303, "/settings?did=Test%20sent%20to%20127.0.0.1.#webhooks")
    );
    let listed = site.read("/api/webhooks").await;
    assert_eq!(listed[1], json!({ "host": "127.0.0.1", "format": "Slack" }));
    let (status, text) = site.post("/api/webhooks/1/test", "").await;
    assert_eq!(status, 204, "{text}");
    let (status, _) = site.post("/api/webhooks/2/test", "").await;
    assert_eq!(status, 404);
    let received = received.lock().clone();
    assert_eq!(received[0]["type"], "test");
    assert_eq!(
        received[1],
        json!({ "text": "This is a test notification of asynqueue." })
    );
}

#[tokio::test]
async fn a_webhook_that_does_not_accept_the_test_is_reported_without_its_url() {
    let (url, _) = chat().await;
    for (url, reason) in [
        (url.as_str(), "the response is 404 Not Found"),
        ("http://127.0.0.1:1", "the request failed: "),
    ] {
        let site = Site::of(with(url, "/hidden")).await;
        let (status, text) = site.post("/api/webhooks/0/test", "").await;
        assert_eq!(status, 502, "{text}");
        assert!(text.contains(reason) && !text.contains("hidden"), "{text}");
    }
}

/// Nobody has opened a page.
#[tokio::test]
async fn a_problem_is_announced_without_viewers() {
    let (url, received) = chat().await;
    let site = Site::of(with(&url, "/secret")).await;
    let now = site.broker.now();
    let mut server = ServerInfo::new("worker-7", now);
    server.seen = Timestamp::from_millis(now.as_millis() - 60_000);
    let hour = Duration::from_secs(3600);
    site.broker.beat(server, hour).await.expect("stored");
    eventually("both are notified", async || received.lock().len() >= 2).await;
    let received = received.lock().clone();
    let (json, text): (Vec<_>, Vec<_>) =
        received.iter().partition(|one| one["type"] == "attention");
    let kinds = json[0]["appeared"].as_array().expect("a list").iter();
    let kinds: Vec<_> = kinds.map(|concern| concern["kind"].clone()).collect();
    assert!(kinds.contains(&json!("lost_servers")), "{kinds:?}");
    let text = text[0]["text"].as_str().expect("text");
    assert!(
        text.starts_with("*asynqueue needs attention*\n• "),
        "{text}"
    );
    assert!(text.contains("worker-7"), "{text}");
}

#[test]
fn an_invalid_url_is_refused_without_showing_it() {
    let broker = asynqueue_core::memory::MemoryBroker::new();
    for url in [
        "hooks.example.com/secret",
        "ftp://host/secret",
        "http://a b/secret",
        "",
    ] {
        let error = Monitor::new(broker.clone()).webhook(url).expect_err(url);
        assert!(matches!(error, ServeError::Webhook { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("the URL of a webhook is invalid") && !text.contains("secret"),
            "{text}"
        );
    }
}
