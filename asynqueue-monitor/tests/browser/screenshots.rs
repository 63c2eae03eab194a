//! The pictures of the guide, which `scripts/screenshots` takes.

use std::path::PathBuf;

use asynqueue_test_servers::eventually;

use super::{
    browser::Browser,
    system::{HOSTILE, System},
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
    let is_told = async || {
        let servers = system.inspector.servers().await.expect("answered");
        servers.iter().any(|server| server.busy == 3)
    };
    eventually("the server tells what it runs", is_told).await;
    for (name, path, scheme) in [
        ("overview", "/", "light"),
        ("overview-dark", "/", "dark"),
        ("queue", "/queues/billing?state=archived", "light"),
        ("task", "/queues/billing/tasks/refused-1", "light"),
        ("schedules", "/schedules", "light"),
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
