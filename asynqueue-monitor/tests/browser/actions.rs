//! Actions of pages in a browser, and their effect on the broker.

use std::time::Duration;

use asynqueue_core::task::TaskState;
use asynqueue_test_servers::eventually;

use super::{browser::Browser, system::System};

/// Selects tasks by their checkboxes.
async fn select(browser: &Browser, ids: &[&str]) {
    for id in ids {
        browser.click(&format!("input[name=id][value={id}]")).await;
    }
}

/// Presses the button of an action on all matching tasks, and confirms their number.
async fn change_all(browser: &Browser, action: &str) {
    browser
        .click(&format!("form.tasks button[value={action}]"))
        .await;
    let confirm = format!("main > form.actions button[value={action}]");
    browser.until_has(&confirm).await;
    browser.click(&confirm).await;
}

async fn is_paused(system: &System, queue: &str) -> bool {
    let info = system.inspector.queue(&queue.into()).await;
    info.expect("read").stats.paused
}

#[tokio::test]
async fn a_queue_is_paused_and_resumed_and_deleted_when_it_is_empty() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    browser.open(&system.url("/queues/backlog")).await;
    browser.click("button[value=pause]").await;
    eventually("it is paused", || is_paused(&system, "backlog")).await;
    browser.click("button[value=resume]").await;
    eventually("it is resumed", async || {
        !is_paused(&system, "backlog").await
    })
    .await;

    assert!(
        !browser
            .has("button[value=delete][data-confirm*=queue]")
            .await
    );
    browser.open(&system.url("/queues/empty")).await;
    browser
        .click_and_confirm("button[value=delete][data-confirm*=queue]")
        .await;
    let is_gone = async || {
        let queues = system.inspector.queues().await.expect("read");
        queues.iter().all(|queue| queue.name != "empty")
    };
    eventually("the empty queue is gone", is_gone).await;
}

#[tokio::test]
async fn selected_tasks_are_run_retried_archived_and_deleted_and_no_others() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    let page = |state: &str| system.url(&format!("/queues/billing?state={state}"));
    browser.open(&page("archived")).await;
    select(&browser, &["refused-1", "refused-2"]).await;
    browser.click("button[value=retry]").await;
    system
        .until_is("billing", "refused-1", TaskState::Pending)
        .await;
    system
        .until_is("billing", "refused-2", TaskState::Pending)
        .await;
    assert_eq!(system.count("billing", TaskState::Archived).await, 3);

    browser.open(&page("scheduled")).await;
    select(&browser, &["later-1"]).await;
    browser.click("button[value=run]").await;
    system
        .until_is("billing", "later-1", TaskState::Pending)
        .await;

    browser.open(&page("retry")).await;
    select(&browser, &["busy-1"]).await;
    browser.click("button[value=archive]").await;
    system
        .until_is("billing", "busy-1", TaskState::Archived)
        .await;

    browser.open(&page("completed")).await;
    select(&browser, &["sent-1"]).await;
    browser
        .click_and_confirm("form.tasks button[value=delete]")
        .await;
    system.until_gone("billing", "sent-1").await;
    assert_eq!(system.count("billing", TaskState::Completed).await, 4);
}

#[tokio::test]
async fn a_running_task_is_cancelled_and_the_others_continue() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    browser
        .open(&system.url("/queues/reports?state=active"))
        .await;
    select(&browser, &["report-2"]).await;
    browser.click_and_confirm("button[value=cancel]").await;
    system.until("reports", TaskState::Active, 2).await;
    let task = system.task("reports", "report-2").await.expect("there");
    assert_ne!(task.state, TaskState::Active);
}

/// Including tasks on other pages of the list.
#[tokio::test]
async fn all_matching_tasks_are_changed_and_no_others() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    let all = "select[name=which] option[value=all]";
    browser
        .open(&system.url("/queues/billing?state=archived&filter=id%3Drefused-3"))
        .await;
    browser.click(all).await;
    browser.click("button[value=retry]").await;
    browser.until_has("main > form.actions").await;
    assert!(
        browser
            .text("main")
            .await
            .contains("1 archived task matches.")
    );
    browser.click("button[value=retry]").await;
    system
        .until_is("billing", "refused-3", TaskState::Pending)
        .await;
    assert_eq!(system.count("billing", TaskState::Archived).await, 4);

    browser
        .open(&system.url("/queues/backlog?state=pending"))
        .await;
    browser.click(all).await;
    change_all(&browser, "archive").await;
    system.until("backlog", TaskState::Archived, 120).await;
    browser
        .open(&system.url("/queues/backlog?state=archived"))
        .await;
    browser.click(all).await;
    change_all(&browser, "delete").await;
    system.until("backlog", TaskState::Archived, 0).await;
}

#[tokio::test]
async fn the_payload_of_a_task_is_edited() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    browser
        .open(&system.url("/queues/billing/tasks/refused-1"))
        .await;
    let payload = browser.find("textarea[name=payload]").await;
    payload.clear().await.expect("empty");
    payload.send_keys(r#"{"to":"grace"}"#).await.expect("typed");
    browser
        .click("form:has(textarea) button:not([hidden])")
        .await;
    let is_changed = async || {
        let task = system.task("billing", "refused-1").await.expect("there");
        system.inspector.payload(&task) == serde_json::json!({ "to": "grace" })
    };
    eventually("the payload has changed", is_changed).await;
}

#[tokio::test]
async fn a_schedule_is_paused_and_resumed_and_run_now() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    let button =
        |does: &str| format!("form:has(input[name=entry][value=weekly]) button[value={does}]");
    let is_paused = async || {
        let entries = system.inspector.schedules().await.expect("read");
        entries
            .iter()
            .any(|entry| entry.name == "weekly" && entry.paused)
    };
    browser.open(&system.url("/schedules")).await;
    browser.click(&button("pause")).await;
    eventually("it is paused", is_paused).await;
    browser.click(&button("resume")).await;
    eventually("it is resumed", async || !is_paused().await).await;
    browser.click(&button("trigger")).await;
    let is_enqueued = async || {
        let found = system.inspector.queue(&"digests".into()).await;
        let filter = "id=weekly@*".parse().expect("a filter");
        let (queue, page) = (found.expect("read").name, Default::default());
        let listing = system
            .inspector
            .list(&queue, TaskState::Pending, &filter, page)
            .await;
        !listing.expect("read").tasks.is_empty()
    };
    eventually("its task is enqueued", is_enqueued).await;
}

#[tokio::test]
async fn a_server_is_made_quiet_and_resumed_and_the_page_follows() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    browser.open(&system.url("/servers")).await;
    browser.click("#servers button[value=quiet]").await;
    browser.until_has("#servers button[value=resume]").await;
    let is_quiet = async || {
        let servers = system.inspector.servers().await.expect("read");
        servers.iter().any(|server| server.quiet)
    };
    assert!(is_quiet().await);
    assert!(browser.has("#servers h2 .paused").await);
    browser.click("#servers button[value=resume]").await;
    browser.until_has("#servers button[value=quiet]").await;
    assert!(!is_quiet().await);
}

#[tokio::test]
async fn a_deletion_can_be_undone_and_the_page_follows() {
    let start = System::of(|monitor| monitor.grace(Duration::from_secs(3600)));
    let (system, browser) = tokio::join!(start, Browser::start());
    let page = system.url("/queues/billing?state=archived");
    browser.open(&page).await;
    select(&browser, &["refused-1"]).await;
    browser
        .click_and_confirm("form.tasks button[value=delete]")
        .await;
    let text = "document.querySelector('#jobs').textContent";
    browser
        .until(&format!("return {text}.includes('starts in')"))
        .await;
    browser.click("#jobs button").await;
    let says = format!("return {text}.includes('undone. No tasks changed.')");
    browser.until(&says).await;
    let is_offered = browser.has("#jobs button").await;
    assert!(!is_offered);
    assert_eq!(system.count("billing", TaskState::Archived).await, 5);
}

#[tokio::test]
async fn a_queue_is_deleted_with_its_tasks_after_its_name_is_typed() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    browser.open(&system.url("/queues/backlog")).await;
    browser.click("details.danger summary").await;
    let name = browser.find("details.danger input").await;
    name.send_keys("backlog").await.expect("typed");
    browser.click("details.danger button").await;
    let is_gone = async || {
        let queues = system.inspector.queues().await.expect("read");
        queues.iter().all(|queue| queue.name != "backlog")
    };
    eventually("the queue is gone", is_gone).await;
}

#[tokio::test]
async fn a_click_moves_tasks_and_the_enter_key_changes_nothing() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    let page = system.url("/queues/billing?state=retry");
    browser.open(&page).await;
    select(&browser, &["busy-1"]).await;
    browser.click(".tasks details summary").await;
    let to = browser.find("input[name=to]").await;
    to.send_keys("elsewhere\u{e007}").await.expect("typed");
    assert_eq!(browser.run("return location.href").await, page);
    browser.click("button[value=move]").await;
    system.until_gone("billing", "busy-1").await;
    let moved = system.task("elsewhere", "busy-1").await.expect("there");
    assert_eq!(moved.state, TaskState::Scheduled);
    assert_eq!(system.count("billing", TaskState::Retry).await, 4);

    browser.open(&system.url("/queues/backlog")).await;
    browser.click("details.danger summary").await;
    let name = browser.find("details.danger input").await;
    name.send_keys("backlog\u{e007}").await.expect("typed");
    assert!(browser.has("button[value=pause]").await);
    assert!(!is_paused(&system, "backlog").await);
}

#[tokio::test]
async fn a_payload_is_edited_and_the_task_runs_with_it() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    browser
        .open(&system.url("/queues/failing/tasks/failing-1"))
        .await;
    let payload = browser.find("textarea[name=payload]").await;
    payload.clear().await.expect("empty");
    payload.send_keys(r#"{"to":"ada"}"#).await.expect("typed");
    browser.click("button[name=then]").await;
    system
        .until_is("failing", "failing-1", TaskState::Completed)
        .await;
    browser
        .until("return document.querySelector('.timeline .good')?.textContent === 'succeeded'")
        .await;
}

#[tokio::test]
async fn a_completed_task_is_enqueued_again_and_the_new_page_follows() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    let before = system.url("/queues/reports/tasks/report-1");
    browser.open(&before).await;
    browser.click("button[formaction]").await;
    let follows = "return document.querySelector('.timeline .paused')?.textContent === 'running'";
    browser
        .until(&format!(
            "if (location.href === '{before}') return false; {follows}"
        ))
        .await;
    assert_eq!(system.count("reports", TaskState::Active).await, 4);
}

#[tokio::test]
async fn task_pages_run_delete_and_retry_their_task() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    let task = |id: &str| system.url(&format!("/queues/billing/tasks/{id}"));
    browser.open(&task("refused-1")).await;
    browser.click("button[value=run]").await;
    system
        .until_is("billing", "refused-1", TaskState::Pending)
        .await;
    browser.open(&task("busy-1")).await;
    browser.click_and_confirm("button[value=delete]").await;
    system.until_gone("billing", "busy-1").await;
    browser.open(&task("refused-2")).await;
    browser.click("button[value=retry]").await;
    system
        .until_is("billing", "refused-2", TaskState::Pending)
        .await;
    let retried = system.task("billing", "refused-2").await.expect("there");
    assert_eq!(retried.envelope.attempts, 0);
}

#[tokio::test]
async fn a_job_can_be_stopped_on_any_page() {
    let start = System::of(|monitor| monitor.grace(Duration::from_secs(3600)));
    let (system, browser) = tokio::join!(start, Browser::start());
    browser
        .open(&system.url("/queues/backlog?state=pending"))
        .await;
    browser.click("select[name=which] option[value=all]").await;
    change_all(&browser, "archive").await;
    browser.until_has("#jobs button").await;
    browser.click("nav a[href='/servers']").await;
    browser.click("#jobs button").await;
    browser
        .until("return document.querySelector('#jobs').textContent.includes('undone. No tasks changed.')")
        .await;
    assert_eq!(system.count("backlog", TaskState::Pending).await, 120);
}

#[tokio::test]
async fn a_failed_job_does_not_look_like_success() {
    let start = System::of(|monitor| monitor.grace(Duration::from_secs(3)));
    let (mut system, browser) = tokio::join!(start, Browser::start());
    browser
        .open(&system.url("/queues/backlog?state=pending"))
        .await;
    browser.click("select[name=which] option[value=all]").await;
    change_all(&browser, "archive").await;
    browser.until_has("#jobs form:not(.error) button").await;
    system.redis().kill();
    let jobs = system.url("/api/jobs");
    let has_failed = async || {
        let jobs = reqwest::get(&jobs).await.expect("a response").text().await;
        jobs.expect("text").contains("Before the failure")
    };
    eventually("the job has failed", has_failed).await;
    system.redis().start_again().await;
    browser.until_has("#jobs form.error").await;
    assert!(browser.text("#jobs form.error").await.contains("failed: "));
    browser.open(&system.url("/servers")).await;
    assert!(browser.has("#jobs form.error").await);
}

/// The number of tasks is shown before anything changes.
#[tokio::test]
async fn all_matching_tasks_are_counted_and_changed_without_script() {
    let (system, browser) = tokio::join!(System::start(), Browser::without_script());
    let page = "/queues/backlog?state=pending&filter=payload~%22customer%201%22";
    browser.open(&system.url(page)).await;
    browser.click("select[name=which] option[value=all]").await;
    browser.click("form.tasks button[value=archive]").await;
    browser.until_has("main > form.actions").await;
    let text = browser.text("main").await;
    assert!(text.contains("31 pending tasks match."), "{text}");
    assert_eq!(browser.text("main button").await, "Archive 31 tasks");
    assert_eq!(system.count("backlog", TaskState::Archived).await, 0);
    browser.click("main button").await;
    system.until("backlog", TaskState::Archived, 31).await;
}
