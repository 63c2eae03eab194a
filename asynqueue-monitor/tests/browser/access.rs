//! Read-only pages.

use asynqueue_monitor::Monitor;

use super::{browser::Browser, system::System};

#[tokio::test]
async fn a_read_only_monitor_offers_no_changes() {
    let (system, browser) = tokio::join!(System::of(Monitor::read_only), Browser::start());
    for page in system.pages() {
        browser.open(&page).await;
        assert!(
            !browser
                .has("form[method=post]:not(.settings, [action$='/search']), form:not([action$='/search']) button[name=do], input[type=checkbox]")
                .await,
            "{page}"
        );
        browser.assert_no_errors(&page).await;
    }
}
