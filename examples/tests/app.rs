//! Runs the program from its configuration file, checks each of its parts, and stops it with a signal.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use asynqueue_test_servers::eventually;

const IN_TIME: Duration = Duration::from_secs(30);

/// A running program and its log lines.
struct Program {
    process: Child,
    lines: Receiver<String>,
}

impl Program {
    fn start(variables: &[(&str, &str)]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_app"))
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .env("ASYNQUEUE_METRICS__ADDRESS", "127.0.0.1:0")
            .env("ASYNQUEUE_MONITORING__PORT", "0")
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .expect("runs");
        let stderr = process.stderr.take().expect("its log");
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Self { process, lines }
    }

    /// Waits for a log line that contains `part`, and returns it.
    fn logs(&self, part: &str) -> String {
        let mut before = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(IN_TIME) {
            if line.contains(part) {
                return line;
            }
            before.push(line);
        }
        panic!("`{part}` was not logged in time, after {before:#?}");
    }

    fn url(&self, part: &str) -> String {
        let line = self.logs(part);
        let (_, url) = line.split_once("url=").expect("a URL");
        url.to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The program has already ended unless a test failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn one_file_starts_every_part_and_a_signal_stops_them_in_order() {
    let mut program = Program::start(&[
        // The variables that Kubernetes sets for a Service named `asynqueue`.
        ("ASYNQUEUE_SERVICE_HOST", "10.0.0.1"),
        ("ASYNQUEUE_PORT", "tcp://10.0.0.1:6379"),
        ("ASYNQUEUE_MONITOR_PASSWORD", "ignored"),
    ]);
    let metrics = program.url("metrics and health endpoints listening");
    let monitor = program.url("web monitor listening");
    let client = reqwest::Client::new();
    let health = metrics.strip_suffix("/metrics").expect("its path");
    let status = async |path: &str| {
        let response = client.get(format!("{health}{path}")).send().await;
        response.expect("a response").status().as_u16()
    };
    assert_eq!(status("/livez").await, 200);
    eventually("it is ready", async || status("/readyz").await == 200).await;

    let get = async |user: &str, password: &str, path: &str| {
        let request = client.get(format!("{monitor}{path}"));
        let response = request.basic_auth(user, Some(password)).send().await;
        let response = response.expect("a response");
        let status = response.status().as_u16();
        (status, response.text().await.expect("text"))
    };
    assert_eq!(get("ada", "wrong", "").await.0, 401);
    let page = get("guest", "look only", "").await.1;
    assert!(
        page.contains("guest, read-only access: open settings"),
        "{page}"
    );
    let schedules = get("ada", "change me", "schedules").await.1;
    for entry in ["clean-up", "greeting"] {
        assert!(schedules.contains(entry), "{entry}: {schedules}");
    }
    for (queue, event) in [("default", "clean-up"), ("email", "email:welcome")] {
        let path = format!("api/queues/{queue}/tasks?state=completed");
        let done = async || get("ada", "change me", &path).await.1.contains(event);
        eventually(&format!("a scheduled {event} has run"), done).await;
    }
    let tasks = get("ada", "change me", "api/queues/email/tasks?state=completed");
    let tasks = tasks.await.1;
    assert!(!tasks.contains("5f3a"), "the token is redacted: {tasks}");

    let scrape = async || {
        let response = client.get(&metrics).send().await;
        let response = response.expect("a response");
        response.text().await.expect("text")
    };
    let text = scrape().await;
    for series in [
        "asynqueue_broker_up 1",
        "asynqueue_queue_size{queue=\"email\",state=\"completed\"}",
        "asynqueue_tasks_processed_total{",
    ] {
        assert!(text.contains(series), "{series} in {text}");
    }

    let id = program.process.id().to_string();
    let sent = Command::new("kill").args(["-s", "TERM", &id]).status();
    assert!(sent.expect("sent").success());
    for line in [
        "scheduler stopped",
        "server stopped",
        "web monitor stopped",
        "metrics and health endpoint stopped",
        "broker closed",
    ] {
        program.logs(line);
    }
    let ended = program.process.wait().expect("ended");
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn a_misspelt_variable_is_named_before_anything_starts() {
    let mut program = Program::start(&[("ASYNQUEUE_CONCURENCY", "4")]);
    program.logs(
        "invalid settings in the variable `ASYNQUEUE_CONCURENCY`: unknown variable: did you mean `ASYNQUEUE_CONCURRENCY`?",
    );
    let ended = program.process.wait().expect("ended");
    assert_eq!(ended.code(), Some(1));
}
