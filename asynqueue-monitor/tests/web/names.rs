//! Names in URLs that do not exist.

use asynqueue_core::{
    inspector::{Action, ActionOutcome},
    task::{TaskId, TaskRef, TaskState},
};
use reqwest::Method;
use serde_json::json;

use super::site::Site;

const MISSING: &str = "queue `male` does not exist: expected `mail`";

/// Every operation of the API, including those that are added later.
#[tokio::test]
async fn the_api_refuses_an_unknown_queue_with_the_nearest_name() {
    let site = Site::new().await;
    let document = site.read("/api/openapi.json").await;
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        if !path.contains("{queue}") {
            continue;
        }
        let path = path.replace("{queue}", "male").replace("{id}", "archived");
        for method in methods.as_object().expect("methods").keys() {
            let method: Method = method.to_uppercase().parse().expect("a method");
            let (query, body) = match path.rsplit('/').next() {
                Some("tasks" | "count" | "headers") => ("?state=archived", None),
                Some("actions") => ("", Some(json!({ "action": "delete", "ids": ["archived"] }))),
                Some("jobs") => ("", Some(json!({ "action": "delete", "state": "archived" }))),
                Some("again") => ("", Some(json!({}))),
                _ => ("", None),
            };
            let what = format!("{method} {path}");
            let (status, body) = site.request(method, &format!("{path}{query}"), body).await;
            assert_eq!((status, &body["error"]), (404, &json!(MISSING)), "{what}");
            operations += 1;
        }
    }
    assert!(operations >= 11, "{operations}");
    let events = site.get("/api/schedules/none/events").await;
    assert!(events.0 == 404 && events.1.contains("`none`"), "{events:?}");
}

#[tokio::test]
async fn pages_and_forms_refuse_an_unknown_queue_with_the_nearest_name() {
    let site = Site::new().await;
    for path in [
        "/queues/male",
        "/queues/male?state=archived",
        "/queues/male/confirm?state=archived&do=delete",
        "/queues/male/tasks/archived",
        "/charts?queue=male",
    ] {
        let (status, page) = site.get(path).await;
        assert!(status == 404 && page.contains(MISSING), "{path}: {page}");
        assert!(!page.contains("value=\"pause\""), "{path}: {page}");
    }
    for (path, form) in [
        ("/queues/male/act", "do=pause"),
        ("/queues/male/tasks", "state=archived&which=all&do=delete"),
        (
            "/queues/male/tasks",
            "state=archived&which=chosen&do=delete&id=archived",
        ),
        ("/queues/male/tasks/archived", "payload=1"),
    ] {
        let (status, page) = site.post(path, form).await;
        assert!(status == 404 && page.contains(MISSING), "{path}: {page}");
    }
    assert_eq!(site.count(TaskState::Archived).await, 1);
}

/// Pages link to queues that servers and schedule entries use before they have had a task.
#[tokio::test]
async fn a_queue_in_use_is_known_before_its_first_task_and_after_its_last() {
    let site = Site::new().await;
    assert_eq!(site.get("/queues/other").await.0, 404);
    let _server = site.serve("worker-1").await;
    site.page("/queues/other").await;
    site.read("/api/queues/other").await;

    let there = |queue: &str| [TaskRef::new(queue, TaskId::new("retry").expect("an id"))];
    let away = Action::MoveTo("once".into());
    for (action, task) in [(away, there("mail")), (Action::Delete, there("once"))] {
        let outcomes = site.inspector.apply(&action, &task).await;
        assert_eq!(outcomes.expect("a result"), [ActionOutcome::Done]);
    }
    site.page("/queues/once").await;
}
