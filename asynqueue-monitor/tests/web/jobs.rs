//! Bulk changes that are started, undone and refused by the API.

use std::time::Duration;

use asynqueue_core::{
    inspector::{ActionKind, ActionTarget},
    task::TaskState,
};
use asynqueue_test_servers::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use super::site::Site;

fn id_of(job: &Value) -> &str {
    job["id"].as_str().expect("text")
}

/// Behind a balancer, the request may reach another process than the page that it comes from.
#[tokio::test]
async fn a_job_of_another_process_is_refused_with_the_name_of_the_process() {
    let site = Site::of(|monitor| monitor.grace(Duration::from_secs(3600))).await;
    let order = json!({ "action": "delete", "state": "archived" });
    let start = || site.request(Method::POST, "/api/queues/mail/jobs", Some(order.clone()));
    let (_, mine) = start().await;
    let (process, number) = id_of(&mine).rsplit_once('-').expect("a number");
    let other = format!("web-2-4711-9f3c-{number}");
    let (status, why) = site
        .request(Method::DELETE, &format!("/api/jobs/{other}"), None)
        .await;
    assert_eq!(status, 404);
    let why = why["error"].as_str().expect("text");
    let expected = format!(
        "job `{other}` belongs to the monitor process `web-2-4711-9f3c`, and this is `{process}`: "
    );
    assert!(why.starts_with(&expected), "{why}");
    let (status, page) = site.post(&format!("/jobs/{other}"), "").await;
    assert!(status == 404 && page.contains("web-2-4711-9f3c"), "{page}");
    assert_eq!(site.read("/api/jobs").await[0]["ended"], false);
    // Two monitors of one process do not share ids either.
    let beside = Site::new().await;
    let (status, _) = beside.post(&format!("/jobs/{}", id_of(&mine)), "").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn jobs_are_started_and_undone_by_the_api() {
    let site = Site::of(|monitor| monitor.grace(Duration::from_secs(3600))).await;
    let order = json!({ "action": "delete", "state": "archived", "filter": "error~mailbox" });
    let path = "/api/queues/mail/jobs";
    let (status, job) = site.request(Method::POST, path, Some(order)).await;
    assert_eq!((status, &job["ended"]), (202, &json!(false)), "{job}");
    let path = format!("/api/jobs/{}", id_of(&job));
    assert_eq!(site.request(Method::DELETE, &path, None).await.0, 202);
    let ended = async || site.read("/api/jobs").await[0]["ended"] == true;
    eventually("it has ended", ended).await;
    assert_eq!(site.count(TaskState::Archived).await, 1);
}

/// By the same rules as the buttons of pages.
#[tokio::test]
async fn a_job_starts_only_if_its_action_applies_to_the_state() {
    let site = Site::of(|monitor| monitor.grace(Duration::from_secs(3600))).await;
    let path = "/api/queues/mail/jobs";
    for state in TaskState::ALL {
        let target = ActionTarget::Task(state);
        for kind in ActionKind::ALL {
            let order = json!({ "action": kind, "state": state, "payload": {}, "queue": "other" });
            let (status, body) = site.request(Method::POST, path, Some(order)).await;
            if kind.applies_to(target) {
                assert_eq!(status, 202, "{kind} of {state}: {body}");
                let job = format!("/api/jobs/{}", id_of(&body));
                site.request(Method::DELETE, &job, None).await;
                let ended = async || site.read("/api/jobs").await[0]["ended"] == true;
                eventually("it has ended", ended).await;
            } else {
                let error = body["error"].as_str().unwrap_or_default();
                let part = format!("action `{kind}` does not apply to ");
                assert!(status == 400 && error.contains(&part), "{status} {body}");
            }
        }
    }
    let order = json!({ "action": "move", "state": "retry", "queue": "mail" });
    let (status, body) = site.request(Method::POST, path, Some(order)).await;
    assert!(status == 400 && body["error"].to_string().contains("another queue"));
}

#[tokio::test]
async fn the_number_of_unfinished_jobs_is_limited() {
    let site = Site::of(|monitor| monitor.grace(Duration::from_secs(3600))).await;
    let order = json!({ "action": "delete", "state": "archived" });
    let start = async || {
        let path = "/api/queues/mail/jobs";
        site.request(Method::POST, path, Some(order.clone())).await
    };
    for _ in 0..20 {
        assert_eq!(start().await.0, 202);
    }
    let (status, why) = start().await;
    assert!(
        status == 429
            && why["error"] == "Too many jobs are in progress: wait until one ends, or stop one.",
        "{why}"
    );
}
