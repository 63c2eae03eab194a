//! `asynqueue monitor`, run as a user would.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
};

fn monitor(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_asynqueue"));
    command.args(["monitor", "--broker", "memory:"]).args(args);
    command.env_remove("ASYNQUEUE_MONITOR_PASSWORD");
    command
}

/// Starts it, and reads where it is.
fn start(command: &mut Command) -> (Child, String) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("runs");
    let mut says = BufReader::new(child.stdout.take().expect("its output")).lines();
    let url = says.next().expect("a line").expect("text");
    (child, url)
}

fn errors(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn it_serves_below_a_path_until_it_is_told_to_stop() {
    let (mut child, url) = start(&mut monitor(&["--listen", "127.0.0.1:0", "--path", "/ops"]));
    assert!(
        url.starts_with("http://127.0.0.1:") && url.ends_with("/ops"),
        "{url}"
    );
    let page = reqwest::get(&url)
        .await
        .expect("an answer")
        .text()
        .await
        .expect("text");
    assert!(page.contains("No queue has had a task yet."), "{page}");
    let id = child.id().to_string();
    let told = Command::new("kill")
        .args(["-s", "TERM", &id])
        .status()
        .expect("sent");
    assert!(told.success());
    assert!(child.wait().expect("ended").success());
}

#[tokio::test]
async fn a_user_needs_the_password_from_the_environment() {
    let mut command = monitor(&["--listen", "127.0.0.1:0", "--username", "ada"]);
    let refused = errors(&command.output().expect("runs"));
    assert!(refused.contains("--password"), "{refused}");
    let (mut child, url) = start(command.env("ASYNQUEUE_MONITOR_PASSWORD", "secret"));
    let client = reqwest::Client::new();
    assert_eq!(
        client.get(&url).send().await.expect("an answer").status(),
        401
    );
    let let_in = client.get(&url).basic_auth("ada", Some("secret"));
    assert_eq!(let_in.send().await.expect("an answer").status(), 200);
    child.kill().expect("ended");
    child.wait().expect("ended");
}

#[test]
fn it_does_not_let_the_world_in_by_mistake() {
    let output = monitor(&["--listen", "0.0.0.0:0"]).output().expect("runs");
    let refused = errors(&output);
    assert!(
        refused.contains("0.0.0.0") && refused.contains("--open-to-all"),
        "{refused}"
    );
}

#[tokio::test]
async fn wrong_passwords_and_changes_are_lines_of_its_error_output() {
    let mut command = monitor(&["--listen", "127.0.0.1:0", "--username", "ada"]);
    command.env("ASYNQUEUE_MONITOR_PASSWORD", "secret");
    let (mut child, url) = start(command.stderr(Stdio::piped()));
    let client = reqwest::Client::new();
    let guess = client.get(&url).basic_auth("ada", Some("guess"));
    assert_eq!(guess.send().await.expect("an answer").status(), 401);
    let job = format!("{url}api/queues/mail/jobs");
    let order = r#"{"action": "retry", "state": "archived"}"#;
    let post = client.post(job).basic_auth("ada", Some("secret"));
    let post = post.header("content-type", "application/json").body(order);
    assert_eq!(post.send().await.expect("an answer").status(), 202);
    child.kill().expect("ended");
    let output = child.wait_with_output().expect("ended");
    let told = String::from_utf8_lossy(&output.stderr);
    for part in [
        "wrong name or password",
        "Retrying all archived tasks of mail",
    ] {
        let mut lines = told
            .lines()
            .filter(|line| line.contains("asynqueue::audit"));
        assert!(lines.any(|line| line.contains(part)), "{part}: {told}");
    }
}
