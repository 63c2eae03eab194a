//! Who gets in, and what they are offered.

use asynqueue_monitor::{Monitor, Role};

use super::{browser::Browser, system::System};

#[tokio::test]
async fn name_and_password_let_in_and_nothing_else_does() {
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
        .expect("an answer")
        .status();
    assert_eq!(status, 401);
    let known = system.url("/").replace("http://", "http://ada:secret@");
    browser.open(&known).await;
    assert_eq!(browser.text(".user").await, "ada");
    browser.click("nav a[href='/schedules']").await;
    assert_eq!(browser.text("h1").await, "Schedules");
}

#[tokio::test]
async fn a_read_only_monitor_offers_nothing_that_changes_anything() {
    let (system, browser) = tokio::join!(System::of(Monitor::read_only), Browser::start());
    for page in system.pages() {
        browser.open(&page).await;
        assert!(
            !browser
                .has("form[method=post]:not(.settings), button[name=do], input[type=checkbox]")
                .await,
            "{page}"
        );
        browser.has_no_complaint(&page).await;
    }
}
