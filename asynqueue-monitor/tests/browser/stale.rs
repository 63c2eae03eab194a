//! Open pages while the broker or the monitor is away.

use asynqueue_test_servers::{Fault, Proxy};

use super::{browser::Browser, system::System};

const BANNER: &str = "document.querySelector('#stale:not([hidden])')";

/// Waits until the banner says something.
async fn says(browser: &Browser, text: &str) {
    let script = format!("return {BANNER}?.textContent.includes({text:?}) ?? false");
    browser.until(&script).await;
}

/// Waits until the age in the banner has changed three times. In this time, no clock of the page may move.
async fn clocks_stand_still(browser: &Browser) {
    let clocks = "[...document.querySelectorAll('main time')].map((time) => time.textContent)";
    let before = browser.run(&format!("return {clocks}")).await;
    assert!(before.as_array().is_some_and(|all| !all.is_empty()));
    for _ in 0..3 {
        let age = "document.querySelector('#stale span:last-child').textContent";
        let now = browser.run(&format!("return {age}")).await;
        browser.until(&format!("return {age} !== {now}")).await;
    }
    assert_eq!(browser.run(&format!("return {clocks}")).await, before);
    let look = "return getComputedStyle(document.querySelector('main')).opacity < 1";
    assert_eq!(browser.run(look).await, true);
}

#[tokio::test]
async fn a_banner_shows_that_the_broker_is_away_and_why_until_it_is_back() {
    let (mut system, browser) = tokio::join!(System::start(), Browser::start());
    browser
        .open(&system.url("/queues/reports?state=active"))
        .await;
    assert!(!browser.has("#stale:not([hidden])").await);
    system.redis().kill();
    says(&browser, "The broker is unavailable: ").await;
    clocks_stand_still(&browser).await;
    system.redis().start_again().await;
    browser.until(&format!("return {BANNER} === null")).await;
    let look = "return getComputedStyle(document.querySelector('main')).opacity";
    assert_eq!(browser.run(look).await, "1");
}

/// It has no figures that could become current.
#[tokio::test]
async fn a_page_that_was_opened_while_the_broker_was_away_loads_when_it_is_back() {
    let (mut system, browser) = tokio::join!(System::start(), Browser::start());
    system.redis().kill();
    browser.open(&system.url("/queues/reports")).await;
    assert_eq!(browser.text("h1").await, "Broker unavailable");
    system.redis().start_again().await;
    let is_loaded = "return document.querySelector('h1')?.textContent === 'reports'";
    browser.until(is_loaded).await;
}

/// A broker that neither answers nor refuses causes no error for some time.
#[tokio::test]
async fn a_banner_shows_that_no_figures_arrive() {
    let (mut system, browser) = tokio::join!(System::start(), Browser::start());
    browser.open(&system.url("/")).await;
    system.redis().pause();
    says(&browser, "Last update ").await;
    system.redis().resume();
    browser.until(&format!("return {BANNER} === null")).await;
}

#[tokio::test]
async fn a_banner_shows_that_the_monitor_is_away_until_it_is_back() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    let proxy = Proxy::start(system.endpoint.address().port()).await;
    let page = format!(
        "http://127.0.0.1:{}/queues/reports?state=active",
        proxy.port()
    );
    browser.open(&page).await;
    proxy.set(Fault::CutReplies);
    says(&browser, "The monitor is not responding.").await;
    clocks_stand_still(&browser).await;
    proxy.set(Fault::None);
    browser.until(&format!("return {BANNER} === null")).await;
}
