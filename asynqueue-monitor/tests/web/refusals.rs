//! Requests of the API that a layer in front of it refuses.

use asynqueue_core::memory::MemoryBroker;
use asynqueue_monitor::{Monitor, Role};

/// A program reads every error in the same way, also those of a layer in front of the API.
#[tokio::test]
async fn a_refusal_of_the_api_is_json() {
    let monitor = Monitor::new(MemoryBroker::new())
        .user("ada", "secret", Role::Admin)
        .and_then(|monitor| monitor.user("bob", "look", Role::Viewer))
        .expect("passwords");
    let endpoint = monitor.serve("127.0.0.1:0").await.expect("served");
    let url = format!("http://{}/api/queues/mail/pause", endpoint.address());
    let client = reqwest::Client::new();
    let post = || client.post(&url);
    for (request, status, error) in [
        (post(), 401, "authentication required"),
        (
            post().basic_auth("bob", Some("look")),
            403,
            "read-only access: changes are not permitted",
        ),
        (
            post()
                .basic_auth("ada", Some("secret"))
                .header("origin", "http://evil"),
            403,
            "cross-site",
        ),
        (
            client.put(&url).basic_auth("ada", Some("secret")),
            405,
            "the path has no such method",
        ),
    ] {
        let response = request.send().await.expect("a response");
        assert_eq!(response.status(), status, "{error}");
        assert_eq!(response.headers()["content-type"], "application/json");
        let body: serde_json::Value = response.json().await.expect("JSON");
        let text = body["error"].as_str().expect("a message");
        assert!(text.contains(error), "{text}");
    }
    endpoint.shutdown().await;
}
