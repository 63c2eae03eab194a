//! The JSON API.

use std::{path::Path, process::Stdio};

use asynqueue_core::{
    inspector::ActionKind, producer::Producer, scheduler::Entry, task::TaskState,
};
use asynqueue_monitor::{Monitor, Role};
use asynqueue_test_servers::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use super::site::{Email, Site};

impl Site {
    /// Status and body of a response.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let mut request = self.client.request(method, self.url(path));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.expect("a response");
        let status = response.status().as_u16();
        let text = response.text().await.expect("text");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub(crate) async fn read(&self, path: &str) -> Value {
        let (status, body) = self.request(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn act(&self, body: Value) -> Value {
        let path = "/api/queues/mail/actions";
        let (status, body) = self.request(Method::POST, path, Some(body)).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    pub(crate) async fn with_schedule(self) -> Self {
        let entry = Entry::new("digest", "@hourly", Email { to: "ada".into() });
        let timetable = self.inspector.timetable();
        timetable.put(entry.expect("a rule")).await.expect("stored");
        self
    }
}

#[tokio::test]
async fn a_broker_that_fails_is_reported_with_one_cause() {
    let site = Site::new().await;
    site.broker.close().await;
    let (status, body) = site.request(Method::GET, "/api/queues", None).await;
    assert_eq!(
        (status, &body["error"]),
        (
            503,
            &json!("the broker is closed: connect again to continue")
        )
    );
}

#[tokio::test]
async fn the_api_returns_what_pages_show() {
    let site = Site::new().await.with_schedule().await;
    let queues = site.read("/api/queues").await;
    assert_eq!(queues[0]["name"], "mail");
    assert_eq!(queues[0]["tasks"]["archived"], 1);
    assert_eq!(site.read("/api/queues/mail").await["failed_today"], 2);
    let hours = site.read("/api/queues/mail/history?hours=2").await;
    assert_eq!(
        (&hours[0]["succeeded"], &hours[0]["failed"]),
        (&json!(1), &json!(2))
    );
    let page = site
        .read("/api/queues/mail/tasks?state=archived&filter=error~mailbox")
        .await;
    assert_eq!(page["tasks"][0]["id"], "archived");
    let task = site.read("/api/queues/mail/tasks/archived").await;
    assert_eq!(task["payload"], json!({ "to": "fails" }));
    let message = &task["history"][0]["failure"]["message"];
    assert_eq!(message, "no <b>such</b> mailbox");
    assert_eq!(site.read("/api/find?id=retry").await[0]["state"], "retry");
    assert_eq!(site.read("/api/schedules").await[0]["rule"], "@hourly");
    let node = &site.read("/api/nodes").await[0];
    assert!(
        node["version"]
            .as_str()
            .is_some_and(|version| version.starts_with("in memory"))
    );
    let concerns = site.read("/api/attention").await;
    assert_eq!(concerns[0]["kind"], "no_server", "{concerns}");
    for path in [
        "/api/servers",
        "/api/subscriptions",
        "/api/outboxes",
        "/api/jobs",
        "/api/queues/mail/groups",
        "/api/schedules/digest/events",
    ] {
        assert_eq!(site.read(path).await, json!([]), "{path}");
    }
}

#[tokio::test]
async fn lists_continue_at_their_cursor() {
    let site = Site::new().await;
    site.enqueue(25).await;
    let (mut seen, mut next) = (0, String::new());
    loop {
        let path = format!("/api/queues/mail/tasks?state=pending&limit=10{next}");
        let page = site.read(&path).await;
        seen += page["tasks"].as_array().expect("a list").len();
        match page["next"].as_str() {
            Some(cursor) => next = format!("&after={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, 26);
}

#[tokio::test]
async fn each_action_of_the_api_changes_the_broker() {
    let site = Site::new().await;
    let payload = json!({ "to": "eve" });
    let outcomes = site
        .act(json!({ "action": "edit", "ids": ["archived", "nobody"], "payload": payload }))
        .await;
    assert_eq!(
        outcomes[0],
        json!({ "id": "archived", "done": true, "reason": null })
    );
    assert_eq!(outcomes[1]["done"], false);
    let info = site.task("archived").await;
    assert_eq!(site.inspector.payload(&info), payload);
    site.act(json!({ "action": "retry", "ids": ["archived"] }))
        .await;
    assert_eq!(site.task("archived").await.state, TaskState::Pending);
    site.act(json!({ "action": "archive", "ids": ["retry"] }))
        .await;
    assert_eq!(site.task("retry").await.state, TaskState::Archived);
    site.act(json!({ "action": "run", "ids": ["scheduled"] }))
        .await;
    assert_eq!(site.task("scheduled").await.state, TaskState::Pending);
    site.act(json!({ "action": "cancel", "ids": ["scheduled"] }))
        .await;
    assert_eq!(site.task("scheduled").await.state, TaskState::Archived);
    site.act(json!({ "action": "move", "ids": ["retry"], "queue": "other" }))
        .await;
    assert_eq!(site.read("/api/find?id=retry").await[0]["queue"], "other");
    let path = "/api/queues/mail/tasks/completed/again";
    let body = json!({ "payload": { "to": "eve" } });
    let (status, place) = site.request(Method::POST, path, Some(body.clone())).await;
    assert_eq!((status, &place["queue"]), (201, &json!("mail")), "{place}");
    let again = site.task(place["id"].as_str().expect("an id")).await;
    assert_eq!(site.inspector.payload(&again), body["payload"]);
    let path = format!(
        "/queues/mail/tasks/{}",
        place["id"].as_str().expect("an id")
    );
    assert_eq!(
        site.read(&format!("/api{path}")).await["copy_of"],
        "completed"
    );
    let page = site.page(&path).await;
    let key = "keeps the idempotency key <code>completed</code>";
    assert!(
        page.contains("<dt>Copy of</dt>") && page.contains(key),
        "{page}"
    );
    site.act(json!({ "action": "delete", "ids": ["completed"] }))
        .await;
    assert_eq!(site.count(TaskState::Completed).await, 0);
}

#[tokio::test]
async fn queues_are_paused_resumed_and_deleted_by_the_api() {
    let site = Site::new().await;
    let path = "/api/queues/mail";
    assert_eq!(
        site.request(Method::POST, "/api/queues/mail/pause", None)
            .await
            .0,
        204
    );
    assert_eq!(site.read(path).await["paused"], true);
    assert_eq!(
        site.request(Method::POST, "/api/queues/mail/resume", None)
            .await
            .0,
        204
    );
    assert_eq!(site.read(path).await["paused"], false);
    let (status, why) = site.request(Method::DELETE, path, None).await;
    assert!(
        status == 409
            && why["error"]
                .as_str()
                .is_some_and(|why| why.contains("force=true"))
    );
    let forced = format!("{path}?force=true");
    assert_eq!(site.request(Method::DELETE, &forced, None).await.0, 204);
    assert_eq!(site.read("/api/queues").await, json!([]));
}

#[tokio::test]
async fn schedules_are_paused_resumed_and_triggered_by_the_api() {
    let site = Site::new().await.with_schedule().await;
    let post = async |action: &str| {
        let path = format!("/api/schedules/digest/{action}");
        site.request(Method::POST, &path, None).await
    };
    assert_eq!(post("pause").await.0, 204);
    assert_eq!(site.read("/api/schedules").await[0]["paused"], true);
    assert_eq!(post("resume").await.0, 204);
    assert_eq!(site.read("/api/schedules").await[0]["paused"], false);
    let (status, task) = post("trigger").await;
    assert_eq!((status, &task["queue"]), (200, &json!("mail")));
    let (status, _) = site
        .request(Method::POST, "/api/schedules/none/pause", None)
        .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn servers_are_made_quiet_and_resumed_by_the_api() {
    let site = Site::new().await;
    let server = site.serve("worker-1").await;
    let post = async |name: &str, action: &str| {
        let path = format!("/api/servers/{name}/{action}");
        site.request(Method::POST, &path, None).await
    };
    let shows =
        async |quiet: bool| site.read("/api/servers").await[0]["quiet"] == Value::Bool(quiet);
    assert!(shows(false).await);
    assert_eq!(post("worker-1", "quiet").await.0, 204);
    eventually("it is shown as quiet", async || shows(true).await).await;
    assert!(server.is_quiet());
    assert_eq!(post("worker-1", "resume").await.0, 204);
    eventually("it is shown as resumed", async || shows(false).await).await;
    assert!(!server.is_quiet());
    let (status, why) = post("nobody", "quiet").await;
    assert_eq!(
        (status, &why["error"]),
        (404, &json!("server `nobody` does not exist"))
    );
}

#[tokio::test]
async fn invalid_requests_are_explained_in_json() {
    let site = Site::new().await;
    for (path, status, part) in [
        ("/api/queues/none", 404, "`none`"),
        ("/api/queues/mail/tasks/none", 404, "mail/none"),
        ("/api/queues/mail/tasks?state=lost", 400, "lost"),
        ("/api/queues/mail/tasks", 400, "state"),
        (
            "/api/queues/mail/tasks?state=retry&limit=0",
            400,
            "1 to 200",
        ),
        (
            "/api/queues/mail/tasks?state=retry&filter=evnt%3Da",
            400,
            "evnt=a",
        ),
        ("/api/queues/mail/history?hours=0", 400, "1 to 2160"),
        ("/api/find?id=", 400, "id"),
        ("/api/nothing", 404, "openapi.json"),
    ] {
        let (found, body) = site.request(Method::GET, path, None).await;
        let error = body["error"].as_str().unwrap_or_default();
        assert!(
            found == status && error.contains(part),
            "{path}: {found} {body}"
        );
    }
    for (body, part) in [
        (json!({ "action": "explode", "ids": ["a"] }), "explode"),
        (
            json!({ "action": "pause", "ids": ["a"] }),
            "action `pause` does not apply to tasks: expected one of retry, run, ",
        ),
        (json!({ "action": "run", "ids": [] }), "1 to 1000"),
        (
            json!({ "action": "edit", "ids": ["a"] }),
            "requires `payload`",
        ),
        (
            json!({ "action": "move", "ids": ["a"] }),
            "requires `queue`",
        ),
        (json!({ "action": "run", "ids": ["a"], "idea": 1 }), "idea"),
    ] {
        let path = "/api/queues/mail/actions";
        let (status, response) = site.request(Method::POST, path, Some(body)).await;
        let error = response["error"].as_str().unwrap_or_default();
        assert!(status == 400 && error.contains(part), "{response}");
    }
}

#[tokio::test]
async fn the_api_requires_the_same_passwords_and_roles() {
    let site = Site::of(|monitor| {
        let monitor = monitor.user("guest", "guest", Role::Viewer);
        monitor.expect("a password")
    })
    .await;
    assert_eq!(site.get("/api/queues").await.0, 401);
    let request = site.client.post(site.url("/api/queues/mail/pause"));
    let request = request.basic_auth("guest", Some("guest"));
    assert_eq!(request.send().await.expect("a response").status(), 403);
}

#[tokio::test]
async fn the_description_contains_the_url_of_the_api() {
    let site = Site::of(|monitor| monitor.path("/ops")).await;
    let document = site.read("/ops/api/openapi.json").await;
    assert_eq!(document["servers"], json!([{ "url": "/ops" }]));
    assert_eq!(document["openapi"], "3.1.0");
}

#[tokio::test]
async fn the_description_lists_the_actions_that_apply_to_tasks() {
    let site = Site::new().await;
    let document = site.read("/api/openapi.json").await;
    let kinds = ActionKind::ALL.iter();
    let kinds: Vec<_> = kinds.filter(|kind| kind.applies_to_tasks()).collect();
    for schema in ["Change", "Order"] {
        let action = &document["components"]["schemas"][schema]["properties"]["action"];
        assert_eq!(action["enum"], json!(kinds), "{schema}: {action}");
    }
}

/// Every response conforms to the description.
#[tokio::test]
async fn schemathesis_finds_nothing() {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin/schemathesis");
    assert!(
        tool.exists(),
        "{} is missing: run scripts/test once to install it",
        tool.display()
    );
    let site = Site::of(Monitor::open_to_all).await.with_schedule().await;
    // The examples of the description name this task.
    let producer = Producer::new(site.broker.clone());
    let email = Email { to: "ada".into() };
    let task = producer.enqueue(email).id("welcome-42").await;
    task.expect("accepted");
    let _server = site.serve("worker-1").await;
    let dir = std::env::temp_dir();
    let run = tokio::process::Command::new(tool)
        .current_dir(dir)
        .args([
            "run",
            &site.url("/api/openapi.json"),
            "--url",
            &site.url(""),
        ])
        .args([
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "25",
            "--seed",
            "1",
        ])
        .args(["--generation-deterministic", "--no-color"])
        // Filters, IDs and cursors have a grammar that the schema does not express, so valid data may be rejected.
        .args(["--exclude-checks", "positive_data_acceptance"])
        .stdin(Stdio::null())
        .output()
        .await
        .expect("it runs");
    println!("{}", String::from_utf8_lossy(&run.stdout));
    let faults = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{faults}");
}
