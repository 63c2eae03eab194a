//! Live updates and keyboard shortcuts.

use super::{
    browser::Browser,
    system::{Email, News, System},
};

/// Enqueues a task, and waits until the page shows it without a reload.
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
async fn numbers_change_without_a_reload() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    figures_follow(&system, &browser).await;
}

/// Links, styles, scripts and live updates.
#[tokio::test]
async fn everything_works_below_a_path() {
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
        browser.assert_no_errors(&page).await;
    }
}

#[tokio::test]
async fn shortcuts_move_through_a_list_focus_the_filter_and_show_help() {
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
async fn new_queues_and_changed_tasks_appear_without_a_reload() {
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
    system.inspector.pause(&queue).await.expect("read");
    let paused = "return document.querySelector('[data-queue=brand-new] .paused') !== null";
    browser.until(paused).await;
    assert_eq!(browser.run("return window.marker").await, true);

    browser
        .open(&system.url("/queues/brand-new/tasks/first"))
        .await;
    browser.run("window.marker = true").await;
    let id = asynqueue_core::task::TaskId::new("first").expect("an id");
    let task = asynqueue_core::task::TaskRef::new("brand-new", id);
    let archive = asynqueue_core::inspector::Action::Archive("for now".into());
    let done = system.inspector.apply(&archive, &[task]).await;
    done.expect("read");
    let archived = "return document.querySelector('.timeline')?.textContent.includes('for now')";
    browser.until(&format!("{archived} === true")).await;
    assert_eq!(browser.run("return window.marker").await, true);
}

#[tokio::test]
async fn a_list_follows_changes_except_while_tasks_are_selected() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    browser
        .open(&system.url("/queues/backlog?state=pending&filter=id%3Dfresh-*"))
        .await;
    assert!(!browser.has("a.id").await);
    browser.run("window.marker = true").await;
    let enqueue = async |id: &str| {
        let email = Email { to: "ada".into() };
        let task = system.producer.enqueue(email).queue("backlog").id(id);
        task.await.expect("accepted");
    };
    enqueue("fresh-1").await;
    let rows = |count| format!("return document.querySelectorAll('a.id').length === {count}");
    browser.until(&rows(1)).await;
    browser.click("input[name=id][value=fresh-1]").await;
    let offers = "document.querySelector('form.tasks button[value=delete]')";
    let says = "document.querySelector('option[value=chosen]').textContent";
    browser
        .until(&format!(
            "return {says} === 'Selected tasks (1)' && !{offers}.disabled"
        ))
        .await;
    enqueue("fresh-2").await;
    let figure = "document.querySelector('.tabs [data-figure=pending]').textContent";
    browser.until(&format!("return {figure} === '122'")).await;
    assert_eq!(browser.run(&rows(1)).await, true);
    browser.click("input[name=id][value=fresh-1]").await;
    browser.until(&rows(2)).await;
    browser.until(&format!("return {offers}.disabled")).await;
    assert_eq!(browser.run("return window.marker").await, true);
}

#[tokio::test]
async fn schedules_and_groups_follow_changes() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    browser.open(&system.url("/schedules")).await;
    browser.run("window.marker = true").await;
    let timetable = system.inspector.timetable();
    timetable.pause("weekly").await.expect("paused");
    browser.until_has("#schedules .paused").await;
    assert_eq!(browser.run("return window.marker").await, true);

    browser.open(&system.url("/groups")).await;
    browser.run("window.marker = true").await;
    let text = "late news".into();
    let news = system.producer.enqueue(News { text }).group("late");
    news.await.expect("accepted");
    let is_there = "return document.querySelector('#groups').textContent.includes('late')";
    browser.until(is_there).await;
    assert_eq!(browser.run("return window.marker").await, true);
}

#[tokio::test]
async fn the_page_of_a_deleted_task_stays_and_shows_a_notice() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    browser
        .open(&system.url("/queues/billing/tasks/refused-1"))
        .await;
    let id = asynqueue_core::task::TaskId::new("refused-1").expect("an id");
    let task = asynqueue_core::task::TaskRef::new("billing", id);
    let delete = asynqueue_core::inspector::Action::Delete;
    let done = system.inspector.apply(&delete, &[task]).await;
    done.expect("read");
    browser.until_has("p.notice").await;
    assert_eq!(
        browser.text("p.notice").await,
        "No longer exists. The last known state is shown."
    );
    assert!(browser.has(".timeline").await);
}

#[tokio::test]
async fn problems_appear_without_a_reload() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    browser.open(&system.url("/")).await;
    browser.run("window.marker = true").await;
    let broker = &system.broker;
    let mut server = system.inspector.servers().await.expect("read").remove(0);
    server.name = "worker-7".into();
    server.seen = asynqueue_core::task::Timestamp::from_millis(broker.now().as_millis() - 20_000);
    let hour = std::time::Duration::from_secs(3600);
    broker.beat(server, hour).await.expect("stored");
    let says =
        "return document.querySelector('#attention').textContent.includes('worker-7 was lost 2')";
    browser.until(says).await;
    assert_eq!(browser.run("return window.marker").await, true);
}

/// In the same format as on the server.
#[tokio::test]
async fn relative_times_stay_current() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    browser
        .open(&system.url("/queues/billing?state=scheduled"))
        .await;
    let read = "return [...document.querySelectorAll('td time')].map((time) => time.textContent)";
    let before = browser.run(read).await;
    let (enqueued, due) = (&before[0], &before[1]);
    let differ = format!("times[0] !== {enqueued} && times[1] !== {due}");
    browser
        .until(&format!(
            "const times = (() => {{ {read} }})(); return {differ}"
        ))
        .await;
    let after = browser.run(read).await;
    for pair in after.as_array().expect("a list").chunks(2) {
        let [Some(enqueued), Some(due)] = [pair[0].as_str(), pair[1].as_str()] else {
            panic!("{after}");
        };
        assert!(enqueued.ends_with("s ago"), "{after}");
        assert!(
            due.starts_with("in 59m ") || due.ends_with("h 59m"),
            "{after}"
        );
    }
}

/// The script and the server follow the same rule for links.
#[tokio::test]
async fn a_figure_is_a_link_while_it_is_not_zero() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    browser.open(&system.url("")).await;
    browser.run("window.marker = true").await;
    let cell = "document.querySelector('[data-queue=empty] [data-figure=pending]')";
    let shows = |html: &str| format!("return {cell}.innerHTML === '{html}'");
    browser.until(&shows("0")).await;
    system
        .inspector
        .pause(&["empty".into()])
        .await
        .expect("paused");
    let email = Email { to: "ada".into() };
    let task = system.producer.enqueue(email).queue("empty").id("one");
    task.await.expect("accepted");
    let page = "/queues/empty?state=pending";
    browser
        .until(&shows(&format!("<a href=\"{page}\">1</a>")))
        .await;
    let id = asynqueue_core::task::TaskId::new("one").expect("an id");
    let task = asynqueue_core::task::TaskRef::new("empty", id);
    let delete = asynqueue_core::inspector::Action::Delete;
    system
        .inspector
        .apply(&delete, &[task])
        .await
        .expect("deleted");
    browser.until(&shows("0")).await;
    assert_eq!(browser.run("return window.marker").await, true);
}

#[tokio::test]
async fn a_theme_and_a_time_zone_are_saved() {
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
    let time = time.expect("read").expect("a title");
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
