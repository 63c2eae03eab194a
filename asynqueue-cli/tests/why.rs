//! `asynqueue why`, as operators run it.

use std::process::{Command, Output};

use asynqueue::{Inspector, inspector::Actor, prelude::*};
use tempfile::TempDir;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email", queue = "mail")]
struct Email {}

fn why(url: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_asynqueue"));
    let output = command.args(["why", "--broker", url]).args(arguments);
    output.output().expect("runs")
}

/// What it prints if it succeeds.
fn printed(url: &str, arguments: &[&str]) -> String {
    let output = why(url, arguments);
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{problem}");
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test]
async fn it_prints_the_causes_of_a_queue_and_of_a_task() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("tasks.db");
    let url = format!("sqlite://{}", file.display());
    let broker = asynqueue::connect(&url).await.expect("opened");
    let producer = Producer::new(broker.clone());
    producer.enqueue(Email {}).id("a").await.expect("accepted");
    assert_eq!(
        printed(&url, &["mail"]),
        "mail: 1 pending\n- no server takes from this queue\n"
    );
    let inspector = Inspector::new(broker).acting_as(Actor::new("ada"));
    let reason = "the mail server is down";
    let paused = inspector.pause_because(&["mail".into()], reason).await;
    paused.expect("paused");
    let text = printed(&url, &["mail", "a"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "mail/a: pending");
    assert!(lines[1].starts_with("- the queue was paused "), "{text}");
    let end = "ago by ada: the mail server is down";
    assert!(lines[1].ends_with(end), "{text}");
    assert_eq!(lines[2..], ["- no server takes from this queue"]);
    for (arguments, expected) in [
        (
            &["mial"][..],
            "queue `mial` does not exist: expected `mail`",
        ),
        (&["mail", "none"], "task `mail/none` does not exist"),
    ] {
        let output = why(&url, arguments);
        let problem = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(problem.contains(expected), "{problem}");
    }
}
