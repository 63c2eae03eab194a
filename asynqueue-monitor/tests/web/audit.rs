//! Who changed what, on pages and in the API.

use asynqueue_core::{
    inspector::{Action, Actor},
    task::{TaskId, TaskRef, TaskState},
};
use asynqueue_monitor::Role;
use reqwest::Method;
use serde_json::json;

use super::site::Site;

/// The fields of the form that edits the scheduled task, without the payload.
const EDIT: &str = "state=scheduled&which=chosen&back=task&do=edit&id=scheduled&payload=";

/// Changes by other programs, at the same time.
async fn changed(site: &Site) {
    let ada = Actor::new("ada").from_address("203.0.113.7");
    let ada = site.inspector.clone().acting_as(ada);
    let mail = ["mail".into()];
    let paused = ada.pause_because(&mail, "too <b>hot</b>").await;
    paused.expect("paused");
    let bob = site.inspector.clone().acting_as("bob");
    bob.pause(&["other".into()]).await.expect("paused");
}

#[tokio::test]
async fn the_page_shows_who_changed_what_from_where_and_filters_in_its_url() {
    let site = Site::new().await;
    let page = site.page("/audit").await;
    assert!(
        page.contains("No changes. They are kept for 90 days."),
        "{page}"
    );
    changed(&site).await;
    let page = site.page("/audit").await;
    for part in [
        "paused queue mail: too &lt;b&gt;hot&lt;/b&gt;",
        "ada <span class=\"note\">from 203.0.113.7</span>",
        "href=\"/queues/mail\"",
        "paused queue other",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    for (query, shows) in [
        ("queue=mail", [true, false]),
        ("by=BOB", [false, true]),
        ("queue=mail&by=bob", [false, false]),
        ("schedule=mail", [false, false]),
        ("day=2001-01-01", [false, false]),
        ("at=2001-01-01T14:05:00Z", [false, false]),
    ] {
        let page = site.page(&format!("/audit?{query}")).await;
        let shown = ["paused queue mail", "paused queue other"];
        let shown = shown.map(|text| page.contains(text));
        assert_eq!(shown, shows, "{query}: {page}");
    }
}

#[tokio::test]
async fn the_page_answers_what_changed_at_a_time() {
    let site = Site::new().await;
    changed(&site).await;
    let now = site.read("/api/audit").await["changes"][0]["at"].clone();
    let now = now.as_str().expect("a time");
    // In UTC, and to the minute.
    let (day, time) = (&now[..10], &now[11..16]);
    for at in [now, time, &format!("{time}&day={day}")] {
        let page = site.page(&format!("/audit?at={at}")).await;
        assert!(page.contains("Changes within 10m of"), "{at}: {page}");
        assert!(page.contains("paused queue mail"), "{at}: {page}");
    }
    let page = site.page("/audit?at=noon").await;
    assert!(page.contains("invalid time `noon`"), "{page}");
    let page = site.page("/audit?after=x").await;
    assert!(page.contains("invalid audit cursor `x`"), "{page}");
}

#[tokio::test]
async fn pages_and_the_api_continue_at_the_next_page() {
    let site = Site::new().await;
    let queues: Vec<_> = (0..120).map(|n| format!("q{n:03}").into()).collect();
    site.inspector.pause(&queues).await.expect("paused");
    let (mut path, mut found) = ("/audit".to_owned(), 0);
    for _ in 0..3 {
        let page = site.page(&path).await;
        found += page.matches("paused queue q").count();
        let next = page.split("class=\"next\" href=\"").nth(1);
        let Some(next) = next.and_then(|next| next.split('"').next()) else {
            break;
        };
        path = format!("/audit{}", next.replace("&amp;", "&"));
    }
    assert_eq!(found, 120);
    let first = site.read("/api/audit?limit=100").await;
    let next = first["next"].as_str().expect("more");
    let second = site
        .read(&format!("/api/audit?limit=100&after={next}"))
        .await;
    assert_eq!(second["changes"].as_array().map(Vec::len), Some(20));
    assert_eq!(second["next"], json!(null));
}

#[tokio::test]
async fn the_api_returns_each_fact_of_a_change() {
    let site = Site::of(|monitor| monitor.redact(["pin"]))
        .await
        .with_schedule()
        .await;
    let edit = json!({ "action": "edit", "ids": ["scheduled"], "payload": { "to": 1, "pin": 7 } });
    let path = "/api/queues/mail/actions";
    assert_eq!(site.request(Method::POST, path, Some(edit)).await.0, 200);
    let changes = site.read("/api/audit?queue=mail&task=scheduled").await["changes"].clone();
    let change = &changes[0];
    assert_eq!(changes.as_array().map(Vec::len), Some(1));
    for (field, expected) in [
        ("by", json!("anonymous")),
        ("from", json!("127.0.0.1")),
        ("action", json!("edit")),
        ("target", json!("queue")),
        ("name", json!("mail")),
        ("text", json!("edited task scheduled in queue mail")),
        ("tasks", json!(["scheduled"])),
        ("done", json!(1)),
        ("job", json!(null)),
    ] {
        assert_eq!(change[field], expected, "{field}: {change}");
    }
    assert_eq!(change["edit"]["before"], "{\"to\":\"ada\"}");
    let shape = [
        "field `pin` was added",
        "field `to` changed from text to a number",
    ];
    assert_eq!(change["edit"]["shape"], json!(shape));
    let of_entry = site.read("/api/audit?schedule=digest").await;
    assert_eq!(of_entry["changes"][0]["action"], "put");

    let job = json!({ "action": "retry", "state": "archived", "filter": "error~mailbox" });
    let (status, _) = site
        .request(Method::POST, "/api/queues/mail/jobs", Some(job))
        .await;
    assert_eq!(status, 202);
    site.until(TaskState::Archived, 0).await;
    let is_complete = async || {
        let changes = site.read("/api/audit?queue=mail").await;
        let job = &changes["changes"][0]["job"];
        *job == json!({ "state": "archived", "filter": "error~mailbox", "complete": true })
    };
    asynqueue_test_servers::eventually("the job is complete", is_complete).await;
    for (query, part) in [
        ("task=scheduled", "`task` requires `queue`"),
        ("queue=a&schedule=b", "exclude each other"),
        ("from=yesterday", "`yesterday`"),
        ("limit=0", "`limit` is 0"),
    ] {
        let (status, body) = site
            .request(Method::GET, &format!("/api/audit?{query}"), None)
            .await;
        let error = body["error"].as_str().unwrap_or_default();
        assert!(
            status == 400 && error.contains(part),
            "{query}: {status} {error}"
        );
    }
}

#[tokio::test]
async fn an_edit_is_in_the_timeline_with_a_warning_and_its_payload_can_be_restored() {
    let site = Site::new().await;
    let form = format!("{EDIT}%7B%22x%22%3A1%7D");
    let (_, to) = site.post("/queues/mail/tasks", &form).await;
    for part in [
        "1%20task%20changed.",
        "Warning",
        "%60to%60%20was%20removed",
        "%60x%60%20was%20added",
    ] {
        assert!(to.contains(part), "{part}: {to}");
    }
    let path = "/queues/mail/tasks/scheduled";
    let page = site.page(path).await;
    for part in [
        "edited task scheduled in queue mail",
        "by anonymous",
        "shape changed",
        "&quot;to&quot;: &quot;ada&quot;",
        "Restore this payload",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    // The fields of its form.
    let restore = page
        .split("<form")
        .find(|form| form.contains("Restore"))
        .expect("a form");
    let seen = restore
        .split("name=\"seen\" value=\"")
        .nth(1)
        .expect("a field");
    let seen = seen.split('"').next().expect("a value");
    assert!(restore.contains("name=\"payload\" value=\"{&quot;to&quot;:&quot;ada&quot;}\""));
    let form = format!("{EDIT}%7B%22to%22%3A%22ada%22%7D&seen={seen}");
    let (_, to) = site.post("/queues/mail/tasks", &form).await;
    assert!(to.contains("1%20task%20changed."), "{to}");
    let info = site.task("scheduled").await;
    assert_eq!(site.inspector.payload(&info), json!({ "to": "ada" }));
    // The first edit restores nothing more, and the second one can be undone.
    let page = site.page(path).await;
    assert_eq!(page.matches("Restore this payload").count(), 1, "{page}");
    assert_eq!(page.matches("edited task").count(), 2);
}

#[tokio::test]
async fn an_edit_of_values_has_no_warning() {
    let site = Site::new().await;
    let form = format!("{EDIT}%7B%22to%22%3A%22bob%22%7D");
    let (_, to) = site.post("/queues/mail/tasks", &form).await;
    assert!(
        to.contains("1%20task%20changed.") && !to.contains("Warning"),
        "{to}"
    );
}

#[tokio::test]
async fn other_changes_are_in_the_timeline_once() {
    let site = Site::new().await;
    let task = TaskRef::new("mail", TaskId::new("scheduled").expect("an id"));
    let ada = site.inspector.clone().acting_as("ada");
    for action in [Action::Archive("unwanted".into()), Action::Retry] {
        let tasks = std::slice::from_ref(&task);
        ada.apply(&action, tasks).await.expect("applied");
    }
    let page = site.page("/queues/mail/tasks/scheduled").await;
    assert!(
        page.contains("retried task scheduled in queue mail"),
        "{page}"
    );
    // It is among the failures of the task.
    assert_eq!(page.matches("unwanted").count(), 1, "{page}");
    assert!(!page.contains("archived task scheduled"), "{page}");
}

#[tokio::test]
async fn viewers_see_changes_and_restore_nothing() {
    let monitor = Site::of(|monitor| {
        let monitor = monitor.user("ada", "secret", Role::Admin);
        let monitor = monitor.expect("a password");
        monitor
            .user("guest", "guest", Role::Viewer)
            .expect("a password")
    });
    let site = monitor.await;
    let form = format!("{EDIT}%7B%22x%22%3A1%7D");
    let edit = site.form("/queues/mail/tasks", &form);
    let edit = edit.basic_auth("ada", Some("secret")).send().await;
    assert!(edit.expect("a response").status().is_redirection());
    for path in ["/audit", "/queues/mail/tasks/scheduled", "/api/audit"] {
        let request = site.client.get(site.url(path));
        let request = request.basic_auth("guest", Some("guest"));
        let page = request.send().await.expect("a response").text().await;
        let page = page.expect("text");
        assert!(page.contains("edited task scheduled"), "{path}: {page}");
        assert!(!page.contains("Restore"), "{path}: {page}");
    }
}

#[tokio::test]
async fn queues_and_schedule_entries_link_to_their_changes() {
    let site = Site::new().await.with_schedule().await;
    for (path, link) in [
        ("/queues/mail", "/audit?queue=mail"),
        ("/schedules/digest", "/audit?schedule=digest"),
    ] {
        assert!(site.page(path).await.contains(&format!("href=\"{link}\"")));
        assert!(site.page(link).await.contains("<h1>Audit</h1>"));
    }
    let page = site.page("/audit?schedule=digest").await;
    assert!(
        page.contains("put schedule entry digest: rule @hourly"),
        "{page}"
    );
}
