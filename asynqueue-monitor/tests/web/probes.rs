//! `/livez` and `/readyz`, and a monitor whose broker is not connected yet.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use asynqueue_core::memory::MemoryBroker;
use asynqueue_monitor::{Endpoint, Monitor, Role};
use asynqueue_test_servers::eventually;

use super::site::Site;

async fn get(endpoint: &Endpoint, path: &str) -> (u16, String) {
    let url = format!("http://{}{path}", endpoint.address());
    let response = reqwest::get(url).await.expect("a response");
    let status = response.status().as_u16();
    (status, response.text().await.expect("text"))
}

#[tokio::test]
async fn probes_need_no_login_and_are_found_with_and_without_the_path() {
    let site = Site::of(|monitor| {
        let monitor = monitor.path("/ops").user("ada", "secret", Role::Admin);
        monitor.expect("a password")
    })
    .await;
    for path in ["/livez", "/readyz", "/ops/livez", "/ops/readyz"] {
        assert_eq!(site.get(path).await, (200, "ok\n".into()), "{path}");
    }
    assert_eq!(site.get("/ops").await.0, 401);
    site.broker.close().await;
    // A ping is valid for a second.
    let is_ready = async || site.get("/readyz").await.0 == 200;
    eventually("it is not ready", async || !is_ready().await).await;
    let (status, reason) = site.get("/ops/readyz").await;
    assert!(status == 503 && reason.contains("closed"), "{reason}");
    assert_eq!(site.get("/livez").await.0, 200);
}

#[tokio::test]
async fn a_monitor_waits_for_its_broker_and_shows_why() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let reachable = Arc::new(AtomicBool::new(false));
    let (attempt, is_reachable) = (Arc::clone(&attempts), Arc::clone(&reachable));
    let monitor = Monitor::connecting(move || {
        attempt.fetch_add(1, SeqCst);
        let connected = match is_reachable.load(SeqCst) {
            true => Ok(MemoryBroker::new()),
            false => Err(io::Error::other("no route to redis")),
        };
        async { connected }
    });
    let monitor = monitor.path("/ops").redact(["iban"]);
    let endpoint = monitor.serve("127.0.0.1:0").await.expect("served");
    eventually("an attempt", async || attempts.load(SeqCst) > 1).await;
    let why = (503, "no route to redis\n".to_owned());
    for path in [
        "/readyz",
        "/ops/readyz",
        "/ops",
        "/ops/queues/a",
        "/ops/api/queues",
    ] {
        assert_eq!(get(&endpoint, path).await, why, "{path}");
    }
    for path in ["/livez", "/ops/livez"] {
        assert_eq!(get(&endpoint, path).await.0, 200, "{path}");
    }
    reachable.store(true, SeqCst);
    let is_ready = async || get(&endpoint, "/readyz").await.0 == 200;
    eventually("it is ready", is_ready).await;
    let (status, page) = get(&endpoint, "/ops").await;
    assert!(
        status == 200 && page.contains(r#"href="/ops/servers""#),
        "{page}"
    );
    // A path parameter reaches its handler.
    let (status, page) = get(&endpoint, "/ops/queues/nowhere").await;
    assert!(status == 404 && page.contains("nowhere"), "{page}");
    let connected = attempts.load(SeqCst);
    endpoint.shutdown().await;
    assert_eq!(attempts.load(SeqCst), connected);
}

#[tokio::test]
async fn a_monitor_without_a_broker_stops_connecting_when_it_is_shut_down() {
    let attempts = Arc::new(());
    let held = Arc::clone(&attempts);
    let monitor = Monitor::connecting(move || {
        let _held = Arc::clone(&held);
        async { Err::<MemoryBroker, _>(io::Error::other("away")) }
    });
    let endpoint = monitor.serve("127.0.0.1:0").await.expect("served");
    drop(monitor);
    assert_eq!(get(&endpoint, "/livez").await.0, 200);
    endpoint.shutdown().await;
    eventually("it no longer connects", async || {
        Arc::strong_count(&attempts) == 1
    })
    .await;
}
