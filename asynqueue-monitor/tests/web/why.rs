//! Why queues and tasks wait, on pages and in the API.

use std::time::Duration;

use asynqueue_core::{
    broker::{LimitInfo, LimitKind, Pausable, QueueUse, RunningTask, ServerInfo},
    task::{TaskId, TaskRef, Timestamp},
};
use reqwest::Method;
use serde_json::json;

use crate::site::Site;

const AN_HOUR: Duration = Duration::from_secs(3600);

impl Site {
    /// A server that takes from the queue and has reported at a time.
    async fn report(&self, name: &str, seen: Timestamp, change: impl FnOnce(&mut ServerInfo)) {
        let mut server = ServerInfo::new(name, seen);
        server.queues = vec![("mail".into(), 1)];
        server.events = vec!["email:send".into()];
        server.concurrency = 8;
        change(&mut server);
        self.broker.beat(server, AN_HOUR).await.expect("reported");
    }

    fn now(&self) -> Timestamp {
        self.inspector.now()
    }
}

/// A task of the queue that has run for a minute.
fn running(id: &str, now: Timestamp) -> RunningTask {
    let task = TaskRef::new("mail", TaskId::new(id).expect("an id"));
    let minute = Duration::from_secs(60);
    RunningTask::new(task, "email:send".into(), 1, now - minute, now + minute)
}

#[tokio::test]
async fn a_pause_shows_who_paused_the_queue_since_when_and_why() {
    let site = Site::new().await;
    let form = "do=pause&reason=the+%3Cbank%3E+rejects+charges";
    let (status, _) = site.post("/queues/mail/act", form).await;
    assert_eq!(status, 303);
    let page = site.page("/queues/mail").await;
    let text = "by anonymous from 127.0.0.1: the &lt;bank&gt; rejects charges.";
    assert!(page.contains("The queue was paused "), "{page}");
    assert!(page.contains(text), "{page}");
    let why = site.read("/api/queues/mail/why").await;
    let cause = &why["causes"][0];
    assert_eq!(
        (
            &cause["kind"],
            &cause["by"],
            &cause["from"],
            &cause["reason"]
        ),
        (
            &json!("paused"),
            &json!("anonymous"),
            &json!("127.0.0.1"),
            &json!("the <bank> rejects charges")
        )
    );
    assert!(cause["since"].is_string(), "{cause}");
    // The same for each task of the queue.
    let task = "/queues/mail/tasks/pending%3Cscript%3E";
    assert!(site.page(task).await.contains("The queue was paused "));
    let why = site.read(&format!("/api{task}/why")).await;
    assert_eq!(why["causes"][0]["by"], "anonymous");
    site.post("/queues/mail/act", "do=resume").await;
    let why = site.read("/api/queues/mail/why").await;
    assert_eq!(why["causes"][0]["kind"], "no_server");
}

#[tokio::test]
async fn a_pause_by_the_api_takes_a_reason() {
    let site = Site::new().await.with_schedule().await;
    for (path, of) in [
        ("queues/mail", Pausable::Queue("mail".into())),
        ("schedules/digest", Pausable::Schedule("digest".into())),
    ] {
        let url = site.url(&format!("/api/{path}/pause?reason=a%20test"));
        let response = site.client.request(Method::POST, url).send().await;
        assert_eq!(response.expect("a response").status(), 204);
        let pauses = site.inspector.pauses(&[of]).await.expect("read");
        let pause = pauses[0].as_ref().expect("recorded");
        assert_eq!(pause.reason.as_deref(), Some("a test"));
    }
    let entry = &site.read("/api/schedules").await[0];
    assert_eq!(entry["pause"]["reason"], "a test", "{entry}");
    let page = site.page("/schedules/digest").await;
    assert!(
        page.contains("by anonymous from 127.0.0.1: a test"),
        "{page}"
    );
}

#[tokio::test]
async fn the_page_of_a_queue_names_its_servers_with_their_limits() {
    let site = Site::new().await;
    let page = site.page("/queues/mail").await;
    assert!(page.contains("No server takes from this queue."), "{page}");
    let now = site.now();
    site.report("web-1", now, |server| {
        server.queue_use = vec![QueueUse::new("mail", 6).with_max(6)];
        server.running = vec![running("long", now)];
    })
    .await;
    let page = site.page("/queues/mail").await;
    assert!(page.contains(">web-1</a> (limit 6, 6 running)"), "{page}");
    let cause = "The limit of this queue is reached: 6 of 6 running on web-1.";
    assert!(page.contains(cause), "{page}");
    assert!(page.contains("/queues/mail/tasks/long"), "{page}");
    let why = site.read("/api/queues/mail/why").await;
    assert_eq!(
        why["servers"][0],
        json!({ "name": "web-1", "state": "working", "running": 6, "limit": 6, "busy": 0, "slots": 8 })
    );
    assert_eq!(why["causes"][0]["kind"], "queue_limit");
    assert_eq!(why["causes"][0]["holders"][0]["id"], "long");
    assert_eq!(why["pending"], 1);
}

#[tokio::test]
async fn the_page_of_a_task_shows_why_it_waits() {
    let site = Site::new().await;
    site.report("web-1", site.now(), |_| {}).await;
    for (id, kind, text) in [
        ("pending%3Cscript%3E", "turn", "It is next in its queue"),
        ("scheduled", "not_due", "It is not due yet: due in 59m"),
        (
            "retry",
            "not_due",
            "Its last attempt failed: the retry is due in 59m",
        ),
    ] {
        let path = format!("/queues/mail/tasks/{id}");
        let page = site.page(&path).await;
        assert!(
            page.contains("Why it waits") && page.contains(text),
            "{page}"
        );
        let why = site.read(&format!("/api{path}/why")).await;
        assert_eq!(why["causes"][0]["kind"], kind, "{why}");
    }
    for id in ["completed", "archived"] {
        let page = site.page(&format!("/queues/mail/tasks/{id}")).await;
        assert!(!page.contains("Why it waits"), "{page}");
        let why = site.read(&format!("/api/queues/mail/tasks/{id}/why")).await;
        assert_eq!((&why["state"], &why["causes"]), (&json!(id), &json!([])));
    }
}

#[tokio::test]
async fn causes_of_what_does_not_exist_are_not_found() {
    let site = Site::new().await;
    for (path, why) in [
        (
            "/api/queues/mial/why",
            "queue `mial` does not exist: expected `mail`",
        ),
        (
            "/api/queues/mail/tasks/none/why",
            "task `mail/none` does not exist",
        ),
    ] {
        let (status, body) = site.get(path).await;
        assert_eq!(status, 404, "{body}");
        assert!(body.contains(why), "{body}");
    }
}

#[tokio::test]
async fn servers_show_their_version_and_limits() {
    let site = Site::new().await;
    site.report("web-1", site.now(), |server| {
        server.version = Some("1.4.2".into());
        server.queue_use = vec![QueueUse::new("mail", 1).with_max(6)];
        let mut limit = LimitInfo::new(LimitKind::Rate, vec!["email:send".into()], 5);
        (limit.period, limit.waiting) = (Some(Duration::from_secs(1)), 41);
        server.limits = vec![limit];
    })
    .await;
    let page = site.page("/servers").await;
    for text in [
        "<dd>1.4.2</dd>",
        "1 of 6 running",
        "email:send: 5 attempts in 1.0s, about 41 tasks waiting",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    let server = &site.read("/api/servers").await[0];
    assert_eq!(
        (&server["version"], &server["queue_limits"]),
        (&json!("1.4.2"), &json!({ "mail": 6 }))
    );
    let limit = &server["limits"][0];
    assert_eq!(
        (&limit["kind"], &limit["period_ms"]),
        (&json!("rate"), &json!(1_000))
    );
}

/// An active task, of a server that last reported some time ago.
async fn active(site: &Site, silent_for: Duration) -> TaskRef {
    let task = TaskRef::new("mail", TaskId::new("pending<script>").expect("an id"));
    let seen = site.now() - silent_for;
    let queues = vec![("mail".into(), 1)];
    let request = asynqueue_core::broker::LeaseRequest::new(queues, 1, AN_HOUR, "web-1".into());
    let leased = site.broker.lease(&request).await.expect("leased").remove(0);
    let lease = leased.expect("leased").remove(0).lease();
    let progress = asynqueue_core::process::Progress::new(89, 610, "");
    let reported = site.broker.report(vec![(lease, progress)]).await;
    reported.expect("reported");
    site.report("web-1", seen, |server| {
        server.busy = 1;
        server.running = vec![running("pending<script>", site.now())];
    })
    .await;
    task
}

#[tokio::test]
async fn the_list_of_active_tasks_shows_since_when_each_runs_and_how_far_it_is() {
    let site = Site::new().await;
    active(&site, Duration::ZERO).await;
    let page = site.page("/queues/mail?state=active").await;
    assert!(
        page.contains("Running since") && page.contains("14\u{202f}%"),
        "{page}"
    );
    assert!(page.contains("1m ago</time>"), "{page}");
    assert!(!page.contains("server lost"), "{page}");
}

/// It has lost the lease, and no longer runs the task.
#[tokio::test]
async fn only_the_server_that_holds_the_lease_says_since_when_a_task_runs() {
    let site = Site::new().await;
    active(&site, Duration::ZERO).await;
    site.report("web-1", site.now(), |_| {}).await;
    let seen = site.now() - Duration::from_secs(60);
    site.report("web-2", seen, |server| {
        server.running = vec![running("pending<script>", seen)];
    })
    .await;
    let page = site.page("/queues/mail?state=active").await;
    assert!(
        page.contains("data-label=\"Running since\">–</td>"),
        "{page}"
    );
    assert!(!page.contains("server lost"), "{page}");
}

/// Otherwise pages would show progress of what has ended.
#[tokio::test]
async fn nothing_ticks_for_a_lost_server() {
    let site = Site::new().await;
    let task = active(&site, Duration::from_secs(60)).await;
    let list = site.page("/queues/mail?state=active").await;
    assert!(list.contains("server lost"), "{list}");
    let (_, row) = list
        .split_once("data-label=\"Running since\"")
        .expect("a row");
    let (cell, _) = row.split_once("</td>").expect("a cell");
    assert!(!cell.contains("<time"), "{cell}");
    let servers = site.page("/servers").await;
    let (_, table) = servers.split_once("<tbody>").expect("running tasks");
    assert!(!table.contains("<time"), "{table}");
    let path = format!("/queues/{}/tasks/pending%3Cscript%3E", task.queue);
    let page = site.page(&path).await;
    let (_, attempt) = page.split_once("attempt 1").expect("the attempt");
    let (attempt, _) = attempt.split_once("</li>").expect("an event");
    assert!(attempt.contains("server lost"), "{attempt}");
    assert!(!attempt.contains("<time"), "{attempt}");
}
