//! The pictures of the guide, which `scripts/screenshots` takes.

use std::{path::PathBuf, time::Duration};

use asynqueue_core::server::{Server, ServerHandle};
use asynqueue_test_servers::eventually;

use super::{
    browser::Browser,
    system::{Email, HOSTILE, System, send},
};

/// Writes them into the directory that `ASYNQUEUE_SCREENSHOTS` names, if it does.
#[tokio::test]
async fn screenshots() {
    let to = std::env::var_os("ASYNQUEUE_SCREENSHOTS").map(PathBuf::from);
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    let size = serde_json::json!({ "width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": false });
    browser
        .devtools("Emulation.setDeviceMetricsOverride", size)
        .await;
    // A picture shows what is usual, and a server that has told what it runs.
    let hidden = system.inspector.delete_queue(&HOSTILE.into(), true).await;
    assert!(hidden.expect("answered"));
    for queue in ["billing", "reports"] {
        system.remember_a_day(queue).await;
    }
    let is_told = async || {
        let servers = system.inspector.servers().await.expect("answered");
        servers.iter().any(|server| server.busy == 3)
    };
    eventually("the server tells what it runs", is_told).await;
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

/// Lets a queue be busy, and waits until a chart of the moment shows it.
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
