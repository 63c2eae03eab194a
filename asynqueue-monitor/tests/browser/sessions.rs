//! Logging in and out in a browser.

use asynqueue_monitor::{Monitor, Role};

use super::{browser::Browser, system::System};

fn guarded(monitor: Monitor) -> Monitor {
    let monitor = monitor.name("production").color("red").expect("a color");
    let monitor = monitor.user("ada", "secret", Role::Admin);
    monitor.expect("a password")
}

impl Browser {
    pub(crate) async fn log_in(&self, name: &str, password: &str) {
        for (field, text) in [("name", name), ("password", password)] {
            let field = self.find(&format!("[name={field}]")).await;
            field.clear().await.expect("cleared");
            field.send_keys(text).await.expect("typed");
        }
        self.click("main button").await;
    }
}

async fn logs_in_and_out(system: &System, browser: &Browser) {
    browser.open(&system.url("/servers")).await;
    browser.log_in("ada", "guess").await;
    browser.until_has(".notice").await;
    assert_eq!(browser.text(".notice").await, "Wrong name or password.");
    browser.log_in("ada", "secret").await;
    browser.until_has("nav").await;
    assert_eq!(browser.text("h1").await, "Servers");
    assert_eq!(browser.text(".user").await, "ada");
    // A change, with the session.
    browser.open(&system.url("/queues/backlog")).await;
    browser.click("button[value=pause]").await;
    browser.until_has("button[value=resume]").await;
    browser.click(".out button").await;
    browser.until_has("[name=password]").await;
    assert_eq!(browser.text(".notice").await, "You are logged out.");
    browser.open(&system.url("/queues/backlog")).await;
    assert!(!browser.has("nav").await);
}

#[tokio::test]
async fn a_browser_logs_in_and_out_with_and_without_script() {
    let (system, browser) = tokio::join!(System::of(guarded), Browser::start());
    logs_in_and_out(&system, &browser).await;
    let (system, browser) = tokio::join!(System::of(guarded), Browser::without_script());
    logs_in_and_out(&system, &browser).await;
}

/// Browsers omit some headers for hosts other than `localhost` that are reached without TLS.
#[tokio::test]
async fn a_browser_logs_in_at_a_host_name_without_tls() {
    let (mut system, browser) = tokio::join!(System::of(guarded), Browser::at("ops.example"));
    system.host = Some("ops.example");
    logs_in_and_out(&system, &browser).await;
}

#[tokio::test]
async fn an_open_tab_says_that_the_user_has_logged_out() {
    let (system, browser) = tokio::join!(System::of(guarded), Browser::start());
    browser.open(&system.url("/queues/backlog")).await;
    browser.log_in("ada", "secret").await;
    browser.until_has("nav").await;
    browser
        .run("fetch(document.querySelector('.out').action, { method: 'POST' })")
        .await;
    let says = "return !document.getElementById('stale').hidden
        && document.getElementById('stale').textContent.includes('You are logged out.')";
    browser.until(says).await;
}
