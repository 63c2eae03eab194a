//! `asynqueue monitor`, run as users run it.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
};

use asynqueue::prelude::*;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email", queue = "mail")]
struct Email {}

fn monitor(args: &[&str]) -> Command {
    monitor_of("memory:", args)
}

fn monitor_of(broker: &str, args: &[&str]) -> Command {
    let mut command = asynqueue();
    command.args(["--broker", broker]).args(args);
    command
}

/// The command without settings.
fn asynqueue() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_asynqueue"));
    let variables = std::env::vars_os().map(|(name, _)| name);
    for name in variables.filter(|name| name.to_string_lossy().starts_with("ASYNQUEUE_")) {
        command.env_remove(name);
    }
    command.arg("monitor");
    command
}

/// Starts the monitor, and reads its address.
fn start(command: &mut Command) -> (Child, String) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("runs");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let url = lines.next().expect("a line").expect("text");
    (child, url)
}

fn errors(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn it_serves_under_a_path_until_a_shutdown_signal() {
    let (mut child, url) = start(&mut monitor(&["--listen", "127.0.0.1:0", "--path", "/ops"]));
    assert!(
        url.starts_with("http://127.0.0.1:") && url.ends_with("/ops"),
        "{url}"
    );
    let page = reqwest::get(&url)
        .await
        .expect("a response")
        .text()
        .await
        .expect("text");
    assert!(
        page.contains("No queues yet. A queue appears with its first task."),
        "{page}"
    );
    let id = child.id().to_string();
    let sent = Command::new("kill")
        .args(["-s", "TERM", &id])
        .status()
        .expect("sent");
    assert!(sent.success());
    assert!(child.wait().expect("ended").success());
}

#[tokio::test]
async fn a_user_needs_the_password_from_the_environment() {
    let mut command = monitor(&["--listen", "127.0.0.1:0", "--username", "ada"]);
    let refused = errors(&command.output().expect("runs"));
    assert_eq!(
        refused.lines().last(),
        Some(
            "asynqueue: user `ada` has no password: set the variable `ASYNQUEUE_MONITOR_PASSWORD` to it or to its argon2 hash"
        )
    );
    assert!(!refused.contains("--password"), "{refused}");
    let (mut child, url) = start(command.env("ASYNQUEUE_MONITOR_PASSWORD", "secret"));
    let client = reqwest::Client::new();
    assert_eq!(
        client.get(&url).send().await.expect("a response").status(),
        401
    );
    let allowed = client.get(&url).basic_auth("ada", Some("secret"));
    assert_eq!(allowed.send().await.expect("a response").status(), 200);
    child.kill().expect("ended");
    child.wait().expect("ended");
}

#[test]
fn it_refuses_to_serve_everyone_by_mistake() {
    let output = monitor(&["--listen", "0.0.0.0:0"]).output().expect("runs");
    let refused = errors(&output);
    assert!(
        refused.contains("0.0.0.0")
            && refused.contains(
                "; on the command line, use `--username`, `--users-file` or `--open-to-all`"
            ),
        "{refused}"
    );
}

#[tokio::test]
async fn failed_logins_and_changes_are_logged_to_standard_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = format!("sqlite://{}", folder.path().join("tasks.db").display());
    let broker = asynqueue::connect(&file).await.expect("opened");
    let producer = Producer::new(broker);
    producer.enqueue(Email {}).await.expect("accepted");
    let args = ["--listen", "127.0.0.1:0", "--username", "ada"];
    let mut command = monitor_of(&file, &args);
    command.env("ASYNQUEUE_MONITOR_PASSWORD", "secret");
    let (mut child, url) = start(command.stderr(Stdio::piped()));
    let client = reqwest::Client::new();
    let guess = client.get(&url).basic_auth("ada", Some("guess"));
    assert_eq!(guess.send().await.expect("a response").status(), 401);
    let job = format!("{url}api/queues/mail/jobs");
    let order = r#"{"action": "retry", "state": "archived"}"#;
    let post = client.post(job).basic_auth("ada", Some("secret"));
    let post = post.header("content-type", "application/json").body(order);
    assert_eq!(post.send().await.expect("a response").status(), 202);
    child.kill().expect("ended");
    let output = child.wait_with_output().expect("ended");
    let log = String::from_utf8_lossy(&output.stderr);
    for part in [
        "login failed: wrong name or password address=127.0.0.1",
        "Retrying all archived tasks in mail",
    ] {
        let mut lines = log.lines().filter(|line| line.contains("asynqueue::audit"));
        assert!(lines.any(|line| line.contains(part)), "{part}: {log}");
    }
}
