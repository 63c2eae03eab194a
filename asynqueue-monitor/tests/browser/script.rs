//! What the script adds: live figures and keys.

use super::{
    browser::Browser,
    system::{Email, System},
};

/// Enqueues a task, and waits until the page says so without being loaded again.
async fn figures_follow(system: &System, browser: &Browser) {
    browser.open(&system.url("")).await;
    browser.run("window.marker = true").await;
    let figure =
        r#"document.querySelector("[data-queue=backlog] [data-figure=pending]").textContent"#;
    assert_eq!(browser.run(&format!("return {figure}")).await, "120");
    let email = Email { to: "ada".into() };
    let task = system.producer.enqueue(email).queue("backlog");
    task.await.expect("accepted");
    browser
        .until(&format!(r#"return {figure} === "121""#))
        .await;
    assert_eq!(browser.run("return window.marker").await, true);
}

#[tokio::test]
async fn figures_change_without_the_page_being_loaded_again() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    figures_follow(&system, &browser).await;
}

/// Links, style, script and figures.
#[tokio::test]
async fn all_works_below_a_path() {
    let start = System::of(|monitor| monitor.path("/ops/tasks"));
    let (system, browser) = tokio::join!(start, Browser::start());
    figures_follow(&system, &browser).await;
    let ground = "return getComputedStyle(document.querySelector('header')).display";
    assert_eq!(browser.run(ground).await, "flex");
    for page in system.pages() {
        browser.open(&page).await;
        let elsewhere = "return [...document.querySelectorAll('[href], [src], [action]')]
            .map((one) => one.getAttribute('href') ?? one.getAttribute('src') ?? one.getAttribute('action'))
            .filter((to) => to.startsWith('/') && to !== '/ops/tasks' && !to.startsWith('/ops/tasks/'))";
        assert_eq!(
            browser.run(elsewhere).await,
            serde_json::json!([]),
            "{page}"
        );
        browser.has_no_complaint(&page).await;
    }
}

#[tokio::test]
async fn keys_lead_through_a_list_and_to_the_filter_and_tell_of_themselves() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    browser
        .open(&system.url("/queues/billing?state=archived"))
        .await;
    let focused = "return document.activeElement.textContent";
    browser.press("j").await;
    let first = browser.run(focused).await;
    browser.press("j").await;
    let second = browser.run(focused).await;
    assert!(
        first.as_str().is_some_and(|id| id.starts_with("refused-")),
        "{first}"
    );
    assert_ne!(first, second);
    browser.press("k").await;
    assert_eq!(browser.run(focused).await, first);
    browser.press("?").await;
    assert!(browser.has("dialog#keys[open]").await);
    browser.click("dialog#keys button").await;
    assert!(!browser.has("dialog#keys[open]").await);
    browser.press("/").await;
    assert_eq!(
        browser.run("return document.activeElement.name").await,
        "filter"
    );
}

#[tokio::test]
async fn what_appears_and_changes_is_shown_without_the_page_being_loaded_again() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    browser.open(&system.url("")).await;
    browser.run("window.marker = true").await;
    let email = Email { to: "ada".into() };
    let task = system
        .producer
        .enqueue(email)
        .queue("brand-new")
        .id("first");
    task.await.expect("accepted");
    let row = "return document.querySelector('[data-queue=brand-new]') !== null";
    browser.until(row).await;
    let queue = ["brand-new".into()];
    system.inspector.pause(&queue).await.expect("answered");
    let paused = "return document.querySelector('[data-queue=brand-new] .paused') !== null";
    browser.until(paused).await;
    assert_eq!(browser.run("return window.marker").await, true);

    browser
        .open(&system.url("/queues/brand-new/tasks/first"))
        .await;
    browser.run("window.marker = true").await;
    let id = asynqueue_core::TaskId::new("first").expect("an id");
    let task = asynqueue_core::TaskRef::new("brand-new", id);
    let archive = asynqueue_core::inspector::Action::Archive("for now".into());
    let done = system.inspector.apply(&archive, &[task]).await;
    done.expect("answered");
    let archived = "return document.querySelector('.events')?.textContent.includes('for now')";
    browser.until(&format!("{archived} === true")).await;
    assert_eq!(browser.run("return window.marker").await, true);
}

#[tokio::test]
async fn a_theme_and_a_time_zone_are_chosen_and_kept() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    browser.prefer("light").await;
    browser.open(&system.url("/settings")).await;
    browser.click("select[name=theme] option[value=dark]").await;
    let zone = browser.find("input[name=zone]").await;
    zone.clear().await.expect("empty");
    zone.send_keys("Asia/Tokyo").await.expect("typed");
    browser.click(".settings button").await;
    browser
        .open(&system.url("/queues/billing?state=archived"))
        .await;
    let ground = "return getComputedStyle(document.body).backgroundColor";
    assert_eq!(browser.run(ground).await, "rgb(20, 23, 28)");
    let time = browser.find("time").await.attr("title").await;
    let time = time.expect("answered").expect("a title");
    assert!(time.ends_with(" JST"), "{time}");
}

#[tokio::test]
async fn the_last_term_of_a_filter_is_completed() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    browser
        .open(&system.url("/queues/billing?state=archived"))
        .await;
    let filter = browser.find(".filter [name=filter]").await;
    filter.send_keys("error~mailbox ev").await.expect("typed");
    let offered = "return [...document.querySelector('.filter [name=filter]').list.options].some(
        (option) => option.value === 'error~mailbox event=email:send')";
    assert_eq!(browser.run(offered).await, true);
}
