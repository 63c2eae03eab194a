//! Who changed what, and restoring an edited payload, on a phone and without script.

use serde_json::json;

use super::{browser::Browser, system::System};

#[tokio::test]
async fn an_edited_payload_is_restored_and_both_changes_are_in_the_audit() {
    let (system, browser) = tokio::join!(System::start(), Browser::without_script());
    let phone = json!({ "width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true });
    browser
        .devtools("Emulation.setDeviceMetricsOverride", phone)
        .await;
    let task = system.url("/queues/billing/tasks/refused-1");
    browser.open(&task).await;
    let before = browser.text("textarea").await;
    browser.find("textarea").await.clear().await.expect("empty");
    let typed = browser.find("textarea").await.send_keys("{\"x\": 1}").await;
    typed.expect("typed");
    browser.click("form textarea ~ .actions button").await;
    browser.until_has(".timeline form button").await;
    let notice = browser.text("p.notice").await;
    assert!(
        notice.contains("Warning: field `to` was removed"),
        "{notice}"
    );
    let timeline = browser.text(".timeline").await;
    assert!(timeline.contains("edited task refused-1"), "{timeline}");
    browser.click(".timeline form button").await;
    browser
        .until_has(".timeline li:nth-of-type(4) details")
        .await;
    assert_eq!(browser.text("textarea").await, before);

    browser.open(&system.url("/queues/billing")).await;
    browser.click("a[href$='audit?queue=billing']").await;
    browser.until_has("table.audit").await;
    let table = browser.text("table.audit").await;
    assert_eq!(table.matches("edited task refused-1").count(), 2, "{table}");
    assert!(table.contains("anonymous from 127.0.0.1"), "{table}");
    browser
        .find("[name=by]")
        .await
        .send_keys("eve")
        .await
        .expect("typed");
    browser.click(".filter button").await;
    browser.until_has("p.empty").await;
    let url = browser.client.current_url().await.expect("a URL");
    assert!(url.as_str().contains("queue=billing&by=eve"), "{url}");
}
