//! Runs the examples of the four designs.

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
};

use asynqueue_test_servers::RedisServer;
use serde_json::{Value, json};

/// The output of a program that ends by itself.
fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect("runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    text
}

/// A long-running program, which is killed on drop.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(program: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        let mut child = command
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("runs");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines }
    }

    /// The next line that contains `part`.
    fn line(&mut self, part: &str) -> String {
        let mut lines = self.lines.by_ref().map(|line| line.expect("a line"));
        let line = lines.find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("the program ended before it printed `{part}`"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails if the program has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn orders_are_confirmed_by_background_tasks() {
    let text = output(env!("CARGO_BIN_EXE_fire_and_forget"), &[]);
    assert!(
        text.contains("confirmed order 3 to customer3@example.org (attempt 2)"),
        "{text}"
    );
    assert!(
        text.contains("again: task default/confirm-1 already exists"),
        "{text}"
    );
    assert!(
        text.contains("10 attempts succeeded, 3 failed and were retried"),
        "{text}"
    );
}

#[tokio::test]
async fn a_result_is_submitted_polled_watched_and_cancelled() {
    let mut service = Running::start(env!("CARGO_BIN_EXE_submit_and_poll"), &["127.0.0.1:0"]);
    let line = service.line("listening on ");
    let url = line.trim_start_matches("listening on ").to_owned();
    let client = reqwest::Client::new();
    let submit = async |below: u64| {
        let request = client
            .post(format!("{url}/primes"))
            .json(&json!({ "below": below }));
        let response = request.send().await.expect("a response");
        assert_eq!(response.status(), 202);
        let location = response.headers()["location"]
            .to_str()
            .expect("text")
            .to_owned();
        format!("{url}{location}")
    };
    let job = submit(100_000).await;
    let events = client
        .get(format!("{job}/events"))
        .send()
        .await
        .expect("events");
    let events = events.text().await.expect("until the end");
    let events: Vec<Value> = (events.lines())
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect();
    assert!(
        events
            .iter()
            .any(|event| event["progress"]["total"] == 100_000),
        "{events:?}"
    );
    let last = events.last().expect("the end");
    assert_eq!(last["state"], "completed");
    assert_eq!(
        last["result"],
        json!({ "primes": 9_592, "largest": 99_991 })
    );
    let status: Value = client
        .get(&job)
        .send()
        .await
        .expect("a response")
        .json()
        .await
        .expect("JSON");
    assert_eq!(&status, last);

    let endless = submit(1_000_000_000).await;
    let cancelled = client.delete(&endless).send().await.expect("a response");
    assert_eq!(cancelled.status(), 202);
    let events = client
        .get(format!("{endless}/events"))
        .send()
        .await
        .expect("events");
    let events = events.text().await.expect("until the end");
    assert!(
        events.contains("archived") && events.contains("by request"),
        "{events}"
    );
    let unknown = client
        .get(format!("{url}/primes/unknown"))
        .send()
        .await
        .expect("a response");
    assert_eq!(unknown.status(), 404);
}

#[tokio::test]
async fn a_killed_service_misses_no_order() {
    const ORDERS: usize = 40;
    let program = env!("CARGO_BIN_EXE_publish_subscribe");
    let redis = RedisServer::start().await;
    let url = redis.url();
    let start = |name: &str| {
        let mut service = Running::start(program, &[name, &url]);
        service.line("is ready");
        service
    };
    let services = ["inventory", "billing", "shipping"];
    let mut running: Vec<_> = services.iter().map(|name| start(name)).collect();
    let publish = |count: usize| output(program, &["shop", &url, &count.to_string()]);
    assert!(publish(ORDERS / 2).contains("order 20 published to 3 services"));
    // Killed while it runs a task. After its restart, it gets that task and all events published in between.
    let mut seen = vec![running[1].line("billing: order")];
    running[1].child.kill().expect("killed");
    seen.extend(running[1].lines.by_ref().map_while(Result::ok));
    assert!(publish(ORDERS).contains("order 40 published to 3 services"));
    running[1] = start("billing");
    let has = |seen: &[String], order: usize| {
        seen.iter()
            .any(|line| line.contains(&format!("order {order} (")))
    };
    for (name, service) in services.iter().zip(&mut running) {
        let mut lines = if *name == "billing" {
            seen.clone()
        } else {
            Vec::new()
        };
        while !(1..=ORDERS).all(|order| has(&lines, order)) {
            lines.push(service.line(&format!("{name}: order")));
        }
    }
}

#[test]
fn pictures_are_resized_uploaded_and_cleaned_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = output(
        env!("CARGO_BIN_EXE_managed"),
        &[&folder.path().to_string_lossy()],
    );
    // Urgent pictures start first: two at a time, on threads that may print in another order.
    let resized: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("resizing"))
        .collect();
    assert_eq!(resized.len(), 12, "{text}");
    for first in [
        "resizing picture 0",
        "resizing picture 4",
        "resizing picture 8",
    ] {
        assert!(resized[..4].contains(&first), "{text}");
    }
    assert!(text.contains("uploads: 12 attempts succeeded"), "{text}");
    assert!(text.contains("12 pictures uploaded in "), "{text}");
    assert!(text.contains(", 3 pictures left"), "{text}");
    let left = folder.path().read_dir().expect("a folder").count();
    assert_eq!(left, 0, "the example removes its files");
}
