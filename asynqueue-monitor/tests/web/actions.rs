//! Actions of pages and their effect on the broker.

use std::time::Duration;

use asynqueue_core::{
    scheduler::Entry,
    task::{TaskState, Timestamp},
};

use asynqueue_test_servers::eventually;

use super::site::{Email, Site};

#[tokio::test]
async fn a_queue_is_paused_and_resumed() {
    let site = Site::new().await;
    let is_paused = async || {
        site.inspector
            .queue(&"mail".into())
            .await
            .expect("a queue")
            .stats
            .paused
    };
    let (status, to) = site.post("/queues/mail/act", "do=pause").await;
    assert_eq!(
        (status, &*to),
        (303, "/queues/mail?did=Queue%20mail%20paused.")
    );
    assert!(is_paused().await);
    assert!(site.page(&to).await.contains("Queue mail paused."));
    site.post("/queues/mail/act", "do=resume").await;
    assert!(!is_paused().await);
    let (_, to) = site.post("/queues/mail/act", "do=delete").await;
    assert!(
        to.contains("did=Queue%20mail%20not%20deleted%3A%20it%20still%20has%20tasks."),
        "{to}"
    );
    let (status, why) = site.post("/queues/mail/act", "do=explode").await;
    assert!(status == 400 && why.contains("`explode`"), "{why}");
    let (status, why) = site.post("/queues/mail/act", "do=quiet").await;
    let expected =
        "action `quiet` does not apply to a queue: expected one of delete, pause, resume";
    assert!(status == 400 && why.contains(expected), "{why}");
}

#[tokio::test]
async fn a_task_offers_the_actions_that_apply_to_its_state() {
    let site = Site::new().await;
    for (id, offered) in [
        ("scheduled", &["run", "archive", "delete"][..]),
        ("pending%3Cscript%3E", &["archive", "delete"]),
        ("retry", &["run", "archive", "delete"]),
        ("archived", &["retry", "run", "delete"]),
        ("completed", &["delete"]),
    ] {
        let page = site.page(&format!("/queues/mail/tasks/{id}")).await;
        let buttons = page.split("name=\"do\" value=\"").skip(1);
        let buttons: Vec<_> = buttons.filter_map(|rest| rest.split('"').next()).collect();
        let shown = [offered, &["edit"]].concat();
        assert_eq!(buttons, shown, "{id}");
    }
}

#[tokio::test]
async fn selected_tasks_are_retried_archived_and_deleted() {
    let site = Site::new().await;
    let path = "/queues/mail/tasks";
    let (status, to) = site
        .post(path, "state=archived&which=chosen&do=retry&id=archived")
        .await;
    assert!(
        status == 303 && to.contains("did=1%20task%20queued%20to%20run."),
        "{to}"
    );
    assert_eq!(site.count(TaskState::Archived).await, 0);
    assert_eq!(site.count(TaskState::Pending).await, 2);
    site.post(path, "state=scheduled&which=chosen&do=archive&id=scheduled")
        .await;
    assert_eq!(site.count(TaskState::Archived).await, 1);
    let form = "state=pending&which=chosen&do=delete&id=archived";
    let (_, to) = site.post(path, form).await;
    site.until(TaskState::Pending, 1).await;
    let text = "Deleting mail/archived: 1 task deleted.";
    site.until_says(&to, text).await;
    // The list shows a task that has completed since.
    let form = "state=retry&which=chosen&do=run&id=completed";
    let (_, to) = site.post(path, form).await;
    assert!(
        to.contains("1%20task%20unchanged%3A%20it%20is%20active%2C%20completed"),
        "{to}"
    );
    for which in ["chosen", "all"] {
        let form = format!("state=pending&which={which}&do=run&id=completed");
        let (status, why) = site.post(path, &form).await;
        let part = "action `run` does not apply to pending tasks: expected one of archive, ";
        assert!(status == 400 && why.contains(part), "{why}");
    }
}

#[tokio::test]
async fn tasks_are_moved_to_another_queue_and_an_empty_selection_changes_nothing() {
    let site = Site::new().await;
    let path = "/queues/mail/tasks";
    let form = "state=archived&which=chosen&do=move&to=other&id=archived";
    let (_, to) = site.post(path, form).await;
    assert!(to.contains("did=1%20task%20moved."), "{to}");
    let page = site.page("/queues/other/tasks/archived").await;
    assert!(page.contains("pending"), "{page}");
    let (_, to) = site.post(path, "state=retry&which=chosen&do=run").await;
    assert!(to.ends_with("did=No%20task%20selected."), "{to}");
    assert_eq!(site.count(TaskState::Retry).await, 1);
    let form = "state=retry&which=chosen&do=move&to=&id=retry";
    let (status, why) = site.post(path, form).await;
    assert!(status == 400 && why.contains("queue"), "{why}");
}

#[tokio::test]
async fn all_matching_tasks_are_changed_and_no_others() {
    let site = Site::new().await;
    let path = "/queues/mail/tasks";
    let (_, to) = site
        .post(
            path,
            "state=archived&which=all&do=delete&filter=error~timeout",
        )
        .await;
    let text = "Deleting all archived tasks in mail matching `error~timeout`: 0 tasks deleted.";
    site.until_says(&to, text).await;
    assert_eq!(site.count(TaskState::Archived).await, 1);
    site.post(
        path,
        "state=archived&which=all&do=delete&filter=error~mailbox",
    )
    .await;
    site.until(TaskState::Archived, 0).await;
}

/// A list sends `ask`. The page that follows has the number of tasks, and changes nothing.
#[tokio::test]
async fn an_action_on_all_matching_tasks_shows_their_number_first() {
    let site = Site::new().await;
    site.enqueue(10_499).await;
    let ask = async |form: &str| {
        let (status, to) = site.post("/queues/mail/tasks", form).await;
        assert_eq!(status, 303, "{to}");
        site.page(&to).await
    };
    let page = ask("state=archived&which=all&do=delete&ask=1&filter=error~mailbox").await;
    assert!(page.contains("1 archived task matches."), "{page}");
    assert!(page.contains("Delete 1 task<"), "{page}");
    let page = ask("state=archived&which=all&do=retry&ask=1&filter=error~timeout").await;
    assert!(page.contains("No archived tasks match."), "{page}");
    assert!(!page.contains("name=\"do\""), "{page}");
    let page = ask("state=pending&which=all&do=move&to=other&ask=1").await;
    assert!(
        page.contains("10\u{202f}500 pending tasks match."),
        "{page}"
    );
    assert!(page.contains("Destination: <b>other</b>"), "{page}");
    let page = ask("state=pending&which=all&do=archive&ask=1&filter=event%3Demail:send").await;
    let bound = "At least 10\u{202f}000 pending tasks match: 10\u{202f}000 of the first 10\u{202f}000. All 10\u{202f}500";
    assert!(page.contains(bound), "{page}");
    let counts = site
        .read("/api/queues/mail/count?state=pending&filter=event%3Demail:send")
        .await;
    let expected = serde_json::json!({ "found": 10_000, "scanned": 10_000, "total": 10_500, "complete": false });
    assert_eq!(counts, expected);
    assert_eq!(site.count(TaskState::Archived).await, 1);
    let (status, why) = site
        .get("/queues/mail/confirm?state=pending&do=retry")
        .await;
    assert!(
        status == 400 && why.contains("does not apply to pending tasks"),
        "{why}"
    );
}

#[tokio::test]
async fn a_payload_is_edited_in_its_own_codec() {
    let site = Site::new().await;
    let form = "state=archived&which=chosen&back=task&do=edit&id=archived&payload=%7B%22to%22%3A%22bob%22%7D";
    let (status, to) = site.post("/queues/mail/tasks", form).await;
    assert!(
        status == 303 && to.starts_with("/queues/mail/tasks/archived?did=1%20task%20changed."),
        "{to}"
    );
    let info = site.task("archived").await;
    assert_eq!(site.inspector.payload(&info).to_string(), r#"{"to":"bob"}"#);
    let again = form.replace("do=edit", "do=edit&then=run");
    let again = again.replace("bob", "eve");
    let (_, to) = site.post("/queues/mail/tasks", &again).await;
    assert!(
        to.contains("did=1%20task%20changed%20and%20queued%20to%20run."),
        "{to}"
    );
    let info = site.task("archived").await;
    assert_eq!(info.state, TaskState::Pending);
    assert_eq!(site.inspector.payload(&info).to_string(), r#"{"to":"eve"}"#);
    let (status, why) = site
        .post("/queues/mail/tasks", &form.replace("%7B", ""))
        .await;
    assert!(
        status == 400 && why.contains("the payload is not valid JSON: "),
        "{why}"
    );
}

#[tokio::test]
async fn a_completed_task_is_enqueued_again_with_another_payload() {
    let site = Site::new().await;
    let path = "/queues/mail/tasks/completed";
    let (status, to) = site.post(path, "payload=%7B%22to%22%3A%22eve%22%7D").await;
    assert_eq!(status, 303, "{to}");
    let page = site.page(&to).await;
    assert!(
        page.contains("Enqueued as a copy of mail/completed."),
        "{page}"
    );
    assert!(page.contains("&quot;eve&quot;"), "{page}");
    assert_eq!(site.count(TaskState::Pending).await, 2);
    assert_eq!(site.count(TaskState::Completed).await, 1);
    let (status, why) = site.post(path, "payload=%7B").await;
    assert!(
        status == 400 && why.contains("the payload is not valid JSON: "),
        "{why}"
    );
    let (status, _) = site.post("/queues/mail/tasks/nobody", "payload=1").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_deletion_is_undone_before_it_starts() {
    let site = Site::of(|monitor| monitor.grace(Duration::from_secs(3600))).await;
    let form = "state=archived&which=all&do=delete";
    let (_, to) = site.post("/queues/mail/tasks", form).await;
    let page = site.page(&to).await;
    assert!(
        page.contains("Deleting all archived tasks in mail starts in ")
            && page.contains(">Undo</button>"),
        "{page}"
    );
    // Without script, the page reloads by itself.
    assert!(page.contains("http-equiv=\"refresh\""), "{page}");
    let (_, action) = page.split_once("action=\"/jobs/").expect("a form");
    let (job, _) = action.split_once('"').expect("its end");
    let (status, to) = site.post(&format!("/jobs/{job}"), "").await;
    assert_eq!(status, 303, "{to}");
    site.until_says(&to, "undone. No tasks changed.").await;
    assert_eq!(site.count(TaskState::Archived).await, 1);
    let (status, page) = site.post(&format!("/jobs/{job}9"), "").await;
    assert_eq!(status, 404, "{page}");
}

#[tokio::test]
async fn a_queue_is_deleted_with_its_tasks_after_its_name_is_typed() {
    let site = Site::new().await;
    let path = "/queues/mail/act";
    let (_, to) = site.post(path, "do=delete&name=male").await;
    assert!(
        to.contains("not%20deleted%3A%20the%20typed%20name%20does%20not%20match."),
        "{to}"
    );
    assert_eq!(site.inspector.queues().await.expect("read").len(), 1);
    let (_, to) = site.post(path, "do=delete&name=mail").await;
    assert!(to.starts_with("/?did="), "{to}");
    assert_eq!(site.inspector.queues().await.expect("read"), []);
}

/// The task records who archived it.
#[tokio::test]
async fn the_acting_user_is_recorded() {
    let site = Site::new().await;
    site.post(
        "/queues/mail/tasks",
        "state=retry&which=chosen&do=archive&id=retry",
    )
    .await;
    let info = site.task("retry").await;
    let last = info.envelope.last_failure().expect("a reason");
    assert_eq!(last.message, "by anonymous: via the monitor");
}

#[tokio::test]
async fn schedule_entries_are_paused_resumed_from_their_next_tick_and_run_now() {
    let site = Site::new().await;
    let broker = site.broker.clone();
    let email = Email { to: "ada".into() };
    let entry = Entry::new("digest", "@hourly", email).expect("a rule");
    site.inspector.timetable().put(entry).await.expect("stored");
    let kept = async || site.inspector.schedules().await.expect("read").remove(0);

    site.post("/schedules", "do=pause&entry=digest").await;
    let mut paused = kept().await;
    assert!(paused.paused);
    // As if it had been paused for a long time.
    paused.next = Some(Timestamp::from_millis(0));
    broker.put_schedules(vec![paused]).await.expect("stored");
    site.post("/schedules", "do=resume&entry=digest").await;
    let resumed = kept().await;
    assert!(!resumed.paused && resumed.next > Some(broker.now()));

    let before = site.count(TaskState::Pending).await;
    let (status, to) = site.post("/schedules", "do=trigger&entry=digest").await;
    assert_eq!(status, 303, "{to}");
    assert_eq!(site.count(TaskState::Pending).await, before + 1);

    let page = site.page("/schedules/digest").await;
    for part in ["@hourly", "&quot;ada&quot;"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let (status, page) = site.post("/schedules", "do=pause&entry=nobody").await;
    assert_eq!(status, 404, "{page}");
}

#[tokio::test]
async fn a_server_is_made_quiet_and_resumed() {
    let site = Site::new().await;
    let server = site.serve("worker 1").await;
    let (status, to) = site.post("/servers", "do=quiet&server=worker+1").await;
    assert_eq!(status, 303, "{to}");
    assert!(to.starts_with("/servers?did=worker%201%20stops%20leasing"));
    eventually("it is quiet", async || server.is_quiet()).await;
    site.until_says("/servers", ">quiet<").await;
    let page = site.page("/servers").await;
    assert!(page.contains("Resume") && !page.contains("Stop leasing"));
    // Back to the same page of the list.
    let form = "do=resume&server=worker+1&after=50";
    let (_, to) = site.post("/servers", form).await;
    assert!(to.starts_with("/servers?after=50&did=worker%201"), "{to}");
    eventually("it leases again", async || !server.is_quiet()).await;
    site.until_says("/servers", "Stop leasing").await;
    let (status, why) = site.post("/servers", "do=quiet&server=nobody").await;
    assert!(status == 404 && why.contains("`nobody`"), "{why}");
    let (status, why) = site.post("/servers", "do=explode&server=nobody").await;
    assert!(status == 400 && why.contains("`explode`"), "{why}");
}

#[tokio::test]
async fn an_edit_is_rejected_if_the_payload_has_changed_since() {
    let site = Site::new().await;
    let page = site.page("/queues/mail/tasks/scheduled").await;
    let (_, seen) = page.split_once("name=\"seen\" value=\"").expect("a field");
    let seen = seen.split('"').next().expect("a version");
    let edit = async |payload: &str| {
        let form = "state=scheduled&which=chosen&back=task&do=edit&id=scheduled";
        let form = format!("{form}&seen={seen}&payload={payload}");
        site.post("/queues/mail/tasks", &form).await
    };
    assert_eq!(edit("%7B%22to%22%3A%22eve%22%7D").await.0, 303);
    let (status, why) = edit("%7B%22to%22%3A%22bob%22%7D").await;
    assert!(
        status == 400
            && why.contains("The payload of mail/scheduled has changed since you opened it."),
        "{why}"
    );
    let info = site.task("scheduled").await;
    assert_eq!(site.inspector.payload(&info)["to"], "eve");
}

#[tokio::test]
async fn a_form_does_not_create_a_queue() {
    let site = Site::new().await;
    let (status, why) = site.post("/queues/no%20such/act", "do=pause").await;
    assert!(status == 404 && why.contains("`no such`"), "{why}");
}

/// Text of another site must not look like a message of the monitor.
#[tokio::test]
async fn a_link_from_another_site_shows_no_message() {
    let site = Site::new().await;
    let request = site.client.get(site.url("/?did=call%20555"));
    let request = request.header("sec-fetch-site", "cross-site");
    let response = request.send().await.expect("a response");
    let page = response.text().await.expect("text");
    assert!(!page.contains("call 555"), "{page}");
    assert!(site.page("/?did=call%20555").await.contains("call 555"));
}
