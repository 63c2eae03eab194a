//! The monitor on a SQLite file: the same pages and actions.

use asynqueue_core::task::TaskState;

use super::{browser::Browser, system::System};

#[tokio::test]
async fn every_page_and_the_actions_work_on_a_file() {
    let (system, browser) = tokio::join!(System::on_a_file(), Browser::start());
    for page in system.pages() {
        browser.open(&page).await;
        assert!(browser.has("main").await, "{page}");
        let text = browser.text("main").await;
        assert!(!text.contains("unexpected error"), "{page}: {text}");
    }
    browser.open(&system.url("/storage")).await;
    let storage = browser.text("main").await;
    for part in ["tasks.db", "sqlite 3.", "free pages"] {
        assert!(storage.contains(part), "{part}: {storage}");
    }

    browser
        .open(&system.url("/queues/billing?state=archived"))
        .await;
    for id in ["refused-1", "refused-2"] {
        browser.click(&format!("input[name=id][value={id}]")).await;
    }
    browser.click("button[value=retry]").await;
    for id in ["refused-1", "refused-2"] {
        system.until_is("billing", id, TaskState::Pending).await;
    }
    assert_eq!(system.count("billing", TaskState::Archived).await, 3);
}
