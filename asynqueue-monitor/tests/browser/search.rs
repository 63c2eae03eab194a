//! The search over all queues in a browser.

use asynqueue_test_servers::eventually;
use fantoccini::Locator;
use serde_json::json;

use super::{browser::Browser, system::System};

async fn found(browser: &Browser) -> usize {
    let found = browser.client.find_all(Locator::Css("#search a.id")).await;
    found.expect("found").len()
}

async fn look_for(browser: &Browser, text: &str) {
    let field = browser.find("header [type=search]").await;
    field.send_keys(text).await.expect("typed");
    browser.press("\u{e007}").await;
    browser.until_has("#search").await;
}

/// The page reloads by itself until the search has ended.
async fn finds_the_customer(system: &System, browser: &Browser) {
    browser.open(&system.url("/servers")).await;
    look_for(browser, "\"customer 117\"").await;
    let is_done = async || browser.has("#search button[value=again]").await;
    eventually("the search has ended", is_done).await;
    assert_eq!(found(browser).await, 1);
    assert!(
        browser
            .text("#search .payload")
            .await
            .contains("customer 117")
    );
    browser.click("#search h2 + p a").await;
    browser.until_has("form.tasks a.id").await;
    let filter = browser.find(".filter [name=filter]").await;
    let filter = filter.prop("value").await.expect("read");
    assert_eq!(filter.as_deref(), Some("text~\"customer 117\""));
}

#[tokio::test]
async fn a_word_in_a_payload_leads_to_its_task_with_two_clicks() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    finds_the_customer(&system, &browser).await;
    // An id leads to its task directly.
    let field = browser.find("header [type=search]").await;
    field.send_keys("refused-1").await.expect("typed");
    browser.press("\u{e007}").await;
    browser.until_has("[data-id=refused-1]").await;
}

#[tokio::test]
async fn a_search_works_without_script_on_a_phone() {
    let (system, browser) = tokio::join!(System::start(), Browser::without_script());
    let phone = json!({ "width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true });
    browser
        .devtools("Emulation.setDeviceMetricsOverride", phone)
        .await;
    finds_the_customer(&system, &browser).await;
    browser.open(&system.url("/search?q=email:")).await;
    eventually("all are found", async || found(&browser).await > 150).await;
}
