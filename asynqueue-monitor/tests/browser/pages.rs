//! Properties of every page.

use asynqueue_test_servers::eventually;
use fantoccini::Locator;
use serde_json::json;

use super::{browser::Browser, system::System};

#[tokio::test]
async fn every_page_opens_without_browser_errors() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    browser.open(&system.url("/")).await;
    let places = browser.client.find_all(Locator::Css("header nav a")).await;
    let places = places.expect("links").len();
    assert!(places >= 5, "{places}");
    for place in 1..=places {
        browser
            .click(&format!("header nav a:nth-of-type({place})"))
            .await;
        assert!(!browser.text("h1").await.is_empty());
    }
    for page in system.pages() {
        browser.open(&page).await;
        assert!(!browser.text("h1").await.is_empty(), "{page}");
        browser.assert_no_errors(&page).await;
    }
}

#[tokio::test]
async fn pages_fit_a_phone_and_follow_the_preferred_color_scheme() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    let phone = json!({ "width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true });
    browser
        .devtools("Emulation.setDeviceMetricsOverride", phone)
        .await;
    for page in system.pages() {
        browser.open(&page).await;
        let width = browser
            .run("return document.documentElement.scrollWidth")
            .await;
        assert!(width.as_f64() <= Some(360.0), "{page} is {width} wide");
    }
    let ground = "return getComputedStyle(document.body).backgroundColor";
    browser.prefer("light").await;
    assert_eq!(browser.run(ground).await, "rgb(255, 255, 255)");
    browser.prefer("dark").await;
    assert_eq!(browser.run(ground).await, "rgb(20, 23, 28)");
}

#[tokio::test]
async fn pages_work_without_script() {
    let (system, browser) = tokio::join!(System::start(), Browser::without_script());
    for page in [
        "/",
        "/charts",
        "/schedules",
        "/groups",
        "/subscriptions",
        "/storage",
    ] {
        browser.open(&system.url(page)).await;
        assert!(browser.has("table tbody tr").await, "{page}");
    }
    browser
        .open(&system.url("/queues/billing?state=archived"))
        .await;
    assert!(browser.has("#refused-1, a.id").await);
    let filter = browser.find(".filter [name=filter]").await;
    filter.send_keys("id=refused-2").await.expect("typed");
    browser.click(".filter button").await;
    let is_filtered = async || {
        let found = browser.client.find_all(Locator::Css("a.id")).await;
        found.expect("found").len() == 1
    };
    eventually("one task matches", is_filtered).await;
    browser.click("button[value=resume]").await;
    browser.until_has("button[value=pause]").await;
    let info = system.inspector.queue(&"billing".into()).await;
    assert!(!info.expect("read").stats.paused);
}

/// Names, payloads and errors are untrusted.
#[tokio::test]
async fn untrusted_text_is_never_executed() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    let name = "%3Cimg%2Fsrc%3Dx%2Fonerror%3Dwindow.hacked%3D1%3E";
    for page in [
        "/".to_owned(),
        "/servers".to_owned(),
        format!("/queues/{name}"),
        format!("/queues/{name}/tasks/{name}"),
        format!("/?did={name}"),
        format!("/find?id={name}"),
        format!("/search?q=%22{name}%22"),
        "/search?q=hacked".to_owned(),
        format!("/queues/billing?filter={name}"),
    ] {
        browser.open(&system.url(&page)).await;
        assert!(!browser.has("main img").await, "{page}");
        assert_eq!(
            browser.run("return window.hacked === undefined").await,
            true
        );
        assert!(browser.client.get_alert_text().await.is_err(), "{page}");
        browser.assert_no_errors(&page).await;
    }
}
