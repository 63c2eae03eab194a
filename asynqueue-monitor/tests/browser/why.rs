//! Why queues and tasks wait, on a phone and without script.

use asynqueue_test_servers::eventually;
use serde_json::json;

use super::{browser::Browser, system::System};

#[tokio::test]
async fn a_queue_is_paused_with_a_reason_on_a_phone_without_script() {
    let (system, browser) = tokio::join!(System::start(), Browser::without_script());
    let phone = json!({ "width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true });
    browser
        .devtools("Emulation.setDeviceMetricsOverride", phone)
        .await;
    let queue = system.url("/queues/backlog");
    browser.open(&queue).await;
    let causes = browser.text(".causes").await;
    assert_eq!(causes, "No server takes from this queue.");
    let reason = browser.find("input[name=reason]").await;
    reason
        .send_keys("the importer is broken")
        .await
        .expect("typed");
    browser.click("button[value=pause]").await;
    browser.until_has("button[value=resume]").await;
    let causes = browser.text(".causes li").await;
    let by = "by anonymous from 127.0.0.1: the importer is broken.";
    assert!(causes.starts_with("The queue was paused "), "{causes}");
    assert!(causes.ends_with(by), "{causes}");
    // Each of its tasks shows the same.
    browser.click("a.id").await;
    browser.until_has("progress, textarea").await;
    let causes = browser.text("#why").await;
    assert!(causes.starts_with("Why it waits"), "{causes}");
    assert!(causes.contains("the importer is broken"), "{causes}");
    browser.open(&queue).await;
    browser.click("button[value=resume]").await;
    browser.until_has("button[value=pause]").await;
    let causes = browser.text(".causes").await;
    assert_eq!(causes, "No server takes from this queue.");
}

#[tokio::test]
async fn the_causes_of_an_open_page_are_live() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    browser.open(&system.url("/queues/failing")).await;
    assert!(browser.text("#why").await.starts_with("Taken by worker-1"));
    let paused = system.inspector.clone().acting_as("eve");
    let queues = ["failing".into()];
    let reason = "a test";
    let done = paused.pause_because(&queues, reason).await;
    done.expect("paused");
    let is_shown = async || browser.text("#why").await.contains("by eve: a test");
    eventually("the pause is shown", is_shown).await;
}

/// The list of active tasks: what runs, since when, and how far it is.
#[tokio::test]
async fn active_tasks_show_their_progress() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    let is_reported = async || {
        let servers = system.inspector.servers().await.expect("read");
        servers.iter().any(|server| server.running.len() == 3)
    };
    eventually("the server reports its tasks", is_reported).await;
    browser
        .open(&system.url("/queues/reports?state=active"))
        .await;
    browser
        .until_has("td[data-label='Running since'] time")
        .await;
    let progress = browser.text("td[data-label=Progress]").await;
    assert!(progress.ends_with('%'), "{progress}");
}
