//! Authentication, and read-only pages.

use asynqueue_monitor::{Monitor, Role};

use super::{browser::Browser, system::System};

#[tokio::test]
async fn a_browser_logs_in_with_name_and_password() {
    let guarded = |monitor: Monitor| {
        monitor
            .user("ada", "secret", Role::Admin)
            .expect("a password")
    };
    let (system, browser) = tokio::join!(System::of(guarded), Browser::start());
    browser.open(&system.url("/")).await;
    assert!(!browser.has("nav").await);
    let status = reqwest::get(system.url("/"))
        .await
        .expect("a response")
        .status();
    assert_eq!(status, 401);
    let known = system.url("/").replace("http://", "http://ada:secret@");
    browser.open(&known).await;
    assert_eq!(browser.text(".user").await, "ada");
    browser.click("nav a[href='/schedules']").await;
    assert_eq!(browser.text("h1").await, "Schedules");
}

#[tokio::test]
async fn a_read_only_monitor_offers_no_changes() {
    let (system, browser) = tokio::join!(System::of(Monitor::read_only), Browser::start());
    for page in system.pages() {
        browser.open(&page).await;
        assert!(
            !browser
                .has("form[method=post]:not(.settings), button[name=do], input[type=checkbox]")
                .await,
            "{page}"
        );
        browser.assert_no_errors(&page).await;
    }
}
