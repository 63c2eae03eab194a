//! The page of outboxes, its forms, and the same in the API.

use std::time::Duration;

use asynqueue_core::{
    broker::{OutboxAction, OutboxInfo},
    outbox::FailedEntry,
    task::Timestamp,
};
use asynqueue_monitor::Monitor;
use serde_json::json;

use super::site::Site;

const A_WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Reports an outbox with two failed entries, as its relay does. Returns what was requested of it.
async fn report(site: &Site) -> Vec<OutboxAction> {
    let mut outbox = OutboxInfo::new("shop-1", "shop", site.broker.now());
    (outbox.host, outbox.pid) = ("host-7".into(), 42);
    (outbox.waiting, outbox.age) = (1_234, 61_000);
    (outbox.accepted, outbox.refused, outbox.failed) = (98_765, 3, 60);
    outbox.error = Some("queue `mail`: <no> response".into());
    let entry = |place, reason: &str| FailedEntry {
        place,
        queue: "mail".into(),
        id: format!("order-{place}"),
        event: "email:send".into(),
        at: Timestamp::from_millis(1_767_225_600_000),
        reason: reason.to_owned(),
    };
    outbox.entries = vec![entry(7, "it is <too> large"), entry(9, "undecodable")];
    let request = site.broker.report_outbox(outbox, A_WEEK).await;
    request
        .expect("reported")
        .map_or_else(Vec::new, |request| request.actions)
}

#[tokio::test]
async fn an_outbox_is_shown_with_its_failed_entries() {
    let site = Site::new().await;
    assert_eq!(report(&site).await, []);
    let page = site.page("/outboxes").await;
    for part in [
        "shop",
        "1\u{202f}234 entries",
        "waiting for 1m 1s",
        "98\u{202f}765 tasks since",
        "host-7, PID 42",
        "Entries wait: queue `mail`: &lt;no&gt; response",
        "mail/order-7",
        "it is &lt;too&gt; large",
        "58 more not shown.",
        "Retry all",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("no relay"));
    site.until_says("/", "Outbox shop: 60 entries have failed.")
        .await;
}

#[tokio::test]
async fn failed_entries_are_retried_and_deleted_on_request() {
    let site = Site::new().await;
    report(&site).await;
    for (form, did) in [
        (
            "do=retry&outbox=shop-1&entry=7",
            "Entry%207%20will%20be%20sent%20again",
        ),
        (
            "do=delete&outbox=shop-1&entry=9",
            "Entry%209%20will%20be%20deleted",
        ),
        (
            "do=retry&outbox=shop-1",
            "All%20failed%20entries%20will%20be%20sent%20again",
        ),
    ] {
        let (status, to) = site.post("/outboxes", form).await;
        assert_eq!(status, 303, "{to}");
        assert!(to.starts_with(&format!("/outboxes?did={did}")), "{to}");
    }
    let expected = [
        OutboxAction::Retry(7),
        OutboxAction::Delete(9),
        OutboxAction::RetryAll,
    ];
    assert_eq!(report(&site).await, expected);
    for (form, status, part) in [
        (
            "do=retry&outbox=nobody",
            404,
            "outbox `nobody` does not exist",
        ),
        ("do=delete&outbox=shop-1", 400, "entry ``"),
        ("do=retry&outbox=shop-1&entry=x", 400, "entry `x`"),
        ("do=pause&outbox=shop-1", 400, "an outbox"),
    ] {
        let (found, why) = site.post("/outboxes", form).await;
        assert!(found == status && why.contains(part), "{form}: {why}");
    }
}

#[tokio::test]
async fn a_read_only_monitor_shows_no_forms_of_outboxes() {
    let site = Site::of(Monitor::read_only).await;
    report(&site).await;
    let page = site.page("/outboxes").await;
    assert!(
        page.contains("mail/order-7") && !page.contains("Retry all"),
        "{page}"
    );
    let (status, _) = site.post("/outboxes", "do=retry&outbox=shop-1").await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn the_api_lists_outboxes_and_changes_their_entries() {
    let site = Site::new().await;
    report(&site).await;
    let outbox = site.read("/api/outboxes").await[0].clone();
    assert_eq!(outbox["name"], "shop");
    assert_eq!(
        (&outbox["waiting"], &outbox["oldest_ms"]),
        (&json!(1_234), &json!(61_000))
    );
    assert_eq!(outbox["lost"], false);
    let entry = json!({
        "entry": 9, "queue": "mail", "id": "order-9", "event": "email:send",
        "written": "2026-01-01T00:00:00.000Z", "reason": "undecodable"
    });
    assert_eq!(outbox["entries"][1], entry);
    for (method, path) in [
        (
            reqwest::Method::POST,
            "/api/outboxes/shop-1/entries/7/retry",
        ),
        (reqwest::Method::DELETE, "/api/outboxes/shop-1/entries/9"),
        (reqwest::Method::POST, "/api/outboxes/shop-1/retry"),
    ] {
        let request = site.client.request(method, site.url(path));
        let response = request.send().await.expect("a response");
        assert_eq!(response.status(), 204, "{path}");
    }
    let expected = [
        OutboxAction::Retry(7),
        OutboxAction::Delete(9),
        OutboxAction::RetryAll,
    ];
    assert_eq!(report(&site).await, expected);
    let concerns = site.read("/api/attention").await;
    let kinds = concerns.as_array().expect("a list").iter();
    assert!(
        kinds
            .map(|one| &one["kind"])
            .any(|kind| kind == "stuck_outbox"),
        "{concerns}"
    );
}
