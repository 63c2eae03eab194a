//! Values that are wider than a phone.

use std::time::Duration;

use asynqueue_core::{broker::ServerInfo, task::Timestamp};
use serde_json::json;

use super::{browser::Browser, layout::PHONE, system::System};

/// The time of a lost server does not tick, so it is a date; and the name of an event has no place to break at.
#[tokio::test]
async fn the_page_of_a_lost_server_is_not_wider_than_a_phone() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    let now = system.broker.now();
    let mut server = ServerInfo::new("worker-7", now);
    server.seen = Timestamp::from_millis(now.as_millis() - 60_000);
    server.events = [format!("mail:{}", "x".repeat(150)).into()].into();
    let hour = Duration::from_secs(3600);
    system.broker.beat(server, hour).await.expect("stored");
    browser.resize(PHONE).await;
    browser.open(&system.url("/servers")).await;
    let width = "return [document.body.textContent.includes('worker-7'), document.documentElement.scrollWidth]";
    assert_eq!(browser.run(width).await, json!([true, 390]));
}
