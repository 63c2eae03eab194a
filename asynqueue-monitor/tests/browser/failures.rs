//! The pages of failures by cause.

use asynqueue_core::task::TaskState;
use asynqueue_test_servers::eventually;
use serde_json::Value;

use super::{
    accessible::{axe, faults},
    browser::Browser,
    layout::{DESKTOP, PHONE},
    system::System,
};

/// Waits until the servers have reported the failures.
async fn reported(system: &System) {
    let client = reqwest::Client::new();
    let is_reported = async || {
        let response = client.get(system.url("/api/failures")).send().await;
        let failures: Value = response.expect("a response").json().await.expect("JSON");
        failures["causes"]
            .as_array()
            .is_some_and(|causes| causes.len() >= 3)
    };
    eventually("the failures are reported", is_reported).await;
}

/// Writes a picture into the directory named by `ASYNQUEUE_SCREENSHOTS`, if it is set.
async fn picture(browser: &Browser, name: &str) {
    if let Some(to) = std::env::var_os("ASYNQUEUE_SCREENSHOTS") {
        let picture = browser.client.screenshot().await.expect("a picture");
        let file = std::path::Path::new(&to).join(format!("{name}.png"));
        std::fs::write(file, picture).expect("written");
    }
}

#[tokio::test]
async fn two_clicks_lead_from_the_first_page_to_the_retry_of_a_cause() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    reported(&system).await;
    browser.open(&system.url("/")).await;
    let cause = system.cause("550 no such mailbox");
    let (_, path) = cause.split_at(system.url("").len());
    browser
        .until_has(&format!("#attention a[href='{path}']"))
        .await;
    browser.click(&format!("#attention a[href='{path}']")).await;
    browser.until_has("button[value=retry]").await;
    let archived = system.count("billing", TaskState::Archived).await;
    assert_eq!(archived, 5);
    browser.click_and_confirm("button[value=retry]").await;
    system.until("billing", TaskState::Archived, 0).await;
    browser
        .until(
            "return document.querySelector('#jobs').textContent.includes('5 tasks queued to run.')",
        )
        .await;
}

/// The name of a class that another list has can make a grid of the table.
#[tokio::test]
async fn the_cells_of_the_list_are_below_their_headings() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    reported(&system).await;
    for width in [DESKTOP, PHONE] {
        browser.resize(width).await;
        browser.open(&system.url("/failures")).await;
        let lefts = "const lefts = row => [...row.cells].map(cell => Math.round(cell.getBoundingClientRect().left)); \
                     const table = document.querySelector('table.causes'); \
                     return [lefts(table.tHead.rows[0]), lefts(table.tBodies[0].rows[0])];";
        let lefts = browser.run(lefts).await;
        assert_eq!(lefts[0], lefts[1], "{width:?}");
        assert!(lefts[0][1].as_i64() > lefts[0][0].as_i64(), "{lefts}");
    }
}

#[tokio::test]
async fn the_pages_fit_every_width_and_theme_and_axe_finds_nothing() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    reported(&system).await;
    let axe = axe();
    for (size, width) in [("desktop", DESKTOP), ("phone", PHONE)] {
        browser.resize(width).await;
        for scheme in ["light", "dark"] {
            browser.prefer(scheme).await;
            for (name, page) in [
                ("overview", system.url("/")),
                ("failures", system.url("/failures")),
                ("cause", system.cause("550 no such mailbox")),
                ("settings", system.url("/settings")),
            ] {
                browser.open(&page).await;
                let found = faults(&browser, &axe).await;
                assert!(
                    found.is_empty(),
                    "{name}, {size}, {scheme}: {}",
                    found.join("\n")
                );
                let wide = browser
                    .run("return document.documentElement.scrollWidth")
                    .await;
                assert!(
                    wide.as_f64() <= Some(f64::from(width.0)),
                    "{name}, {size}: {wide}"
                );
                picture(&browser, &format!("{name}-{size}-{scheme}")).await;
            }
        }
    }
}

#[tokio::test]
async fn the_pages_work_without_script() {
    let (system, browser) = tokio::join!(System::start(), Browser::without_script());
    reported(&system).await;
    browser.open(&system.url("/failures")).await;
    assert!(browser.has(".causes tbody tr svg.spark").await);
    browser.click(".causes tbody th a").await;
    assert!(browser.has("button[value=retry]").await);
    browser.click("button[value=retry]").await;
    browser.until_has("#jobs form").await;
}
