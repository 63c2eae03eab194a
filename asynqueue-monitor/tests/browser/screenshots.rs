//! The screenshots for the guide, taken by `scripts/screenshots`.

use std::{path::PathBuf, time::Duration};

use asynqueue_core::server::{Server, ServerHandle};
use asynqueue_test_servers::eventually;

use super::{
    browser::Browser,
    system::{Email, System, send},
};

/// Writes them into the directory named by `ASYNQUEUE_SCREENSHOTS`, if it is set.
#[tokio::test]
async fn screenshots() {
    let to = std::env::var_os("ASYNQUEUE_SCREENSHOTS").map(PathBuf::from);
    let (system, browser) = tokio::join!(System::typical(|monitor| monitor), Browser::start());
    let size = serde_json::json!({ "width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": false });
    browser
        .devtools("Emulation.setDeviceMetricsOverride", size)
        .await;
    for queue in ["billing", "reports"] {
        system.remember_a_day(queue).await;
    }
    let is_listed = async || {
        let servers = system.inspector.servers().await.expect("read");
        servers.iter().any(|server| server.busy == 3)
    };
    eventually("the server reports its running tasks", is_listed).await;
    let _traffic = match to.is_some() {
        true => Some(traffic(&system, &browser).await),
        false => None,
    };
    for (name, path, scheme) in [
        ("overview", "/", "light"),
        ("queue", "/queues/billing?state=archived", "light"),
        ("task", "/queues/billing/tasks/refused-1", "dark"),
    ] {
        browser.prefer(scheme).await;
        browser.open(&system.url(path)).await;
        let picture = browser.client.screenshot().await.expect("a picture");
        assert!(picture.starts_with(b"\x89PNG"), "{name}");
        if let Some(to) = &to {
            std::fs::write(to.join(format!("monitor-{name}.png")), picture).expect("written");
        }
    }
}

/// Keeps a queue busy until the live chart shows it.
async fn traffic(system: &System, browser: &Browser) -> ServerHandle {
    let server = Server::builder(system.broker.clone()).name("worker-2");
    let server = server.concurrency(4).queue("newsletter", 1).process(send);
    let server = server.start().await.expect("started");
    browser.open(&system.url("/")).await;
    let bars = "return document.querySelectorAll('#recent rect').length > 180";
    for round in 0_usize.. {
        let emails = (0..3 + round * 7 % 11).map(|n| Email {
            to: if n == 9 { "busy" } else { "ada" }.into(),
        });
        let sent = system
            .producer
            .enqueue_many_with(emails, |_, call| call.queue("newsletter"));
        assert!(sent.await.iter().all(Result::is_ok));
        if browser.run(bars).await == true {
            break;
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    server
}
