//! Attempts that were lost with their server, beside the failed ones.

use std::time::Duration;

use asynqueue_core::broker::{LeaseRequest, Outcome, Settled, Settlement, all_of};
use asynqueue_test_servers::eventually;
use serde_json::json;

use super::{browser::Browser, layout::PHONE, system::System};

/// Leases pending tasks of a queue as a server that dies, and reclaims them.
async fn lose(system: &System, queue: &str, attempts: usize) {
    let queues = vec![(queue.into(), attempts)];
    let lease = Duration::from_millis(1);
    let request = LeaseRequest::new(queues, attempts, lease, "dead".into());
    let leased = all_of(system.broker.lease(&request).await).expect("leased");
    let leased = leased.concat();
    assert_eq!(leased.len(), attempts);
    for leased in leased {
        let reclaim = Settlement {
            only_if_expired: true,
            ..leased.settle(Outcome::Archive)
        };
        let reclaim = std::slice::from_ref(&reclaim);
        // Until the lease has expired.
        eventually("the task is reclaimed", async || {
            let settled = all_of(system.broker.settle(reclaim).await);
            settled.expect("settled") == [Settled::Recorded]
        })
        .await;
    }
}

#[tokio::test]
async fn lost_attempts_appear_without_a_reload() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    browser.resize(PHONE).await;
    browser.open(&system.url("")).await;
    browser.run("window.marker = true").await;
    let texts = "['[data-total=lost]', '[data-queue=backlog] [data-figure=lost]']
        .map((css) => document.querySelector(css).textContent)";
    let shown = format!("return {texts}");
    assert_eq!(browser.run(&shown).await, json!(["", ""]));
    lose(&system, "backlog", 3).await;
    let appear = format!("return {texts}.every((text) => text === ' · 3 lost')");
    browser.until(&appear).await;
    assert_eq!(browser.run("return window.marker").await, true);
    browser.open(&system.url("/queues/backlog")).await;
    let bar = "return [document.querySelector('.bar [data-figure=lost]').textContent, document.documentElement.scrollWidth]";
    assert_eq!(browser.run(bar).await, json!([" · 3 lost", 390]));
}
