//! Runs the program as a user does: killed half-way, started again, and started once more.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
};

use asynqueue::{
    broker::Page,
    prelude::BoxError,
    task::{FailureKind, TaskState},
};

fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_welcome_email"));
    command.current_dir(folder).stdout(Stdio::piped());
    command
}

/// Runs the program to its end, and returns what it printed.
fn run(folder: &Path) -> String {
    let output = program(folder).output().expect("runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}");
    text
}

/// The number of ended tasks in a line of progress: `[####....]  345/1000  pending …`.
fn ended(line: &str) -> Option<u64> {
    let (_, counts) = line.split_once(']')?;
    counts.split_once("/1000")?.0.trim().parse().ok()
}

/// Kills the program as soon as some tasks have ended, and returns what it had printed.
fn run_half_way(folder: &Path) -> String {
    let mut child = program(folder).spawn().expect("runs");
    let mut lines = BufReader::new(child.stdout.take().expect("its output"));
    let (mut text, mut line) = (String::new(), String::new());
    while ended(&line).is_none_or(|ended| ended == 0) {
        line.clear();
        assert_ne!(lines.read_line(&mut line).expect("a line"), 0, "{text}");
        text += &line;
    }
    child.kill().expect("is running");
    child.wait().expect("has ended");
    lines.read_to_string(&mut text).expect("the rest");
    text
}

/// How often each user was sent an email.
fn sent(folder: &Path) -> BTreeMap<String, usize> {
    let mut sent = BTreeMap::new();
    let text = fs::read_to_string(folder.join("welcome_email.sent")).expect("a file");
    for user in text.lines() {
        *sent.entry(user.to_owned()).or_default() += 1;
    }
    sent
}

/// The ids of the completed tasks, and those of them that had lost a lease.
async fn completed(folder: &Path) -> Result<(BTreeSet<String>, BTreeSet<String>), BoxError> {
    let url = format!("sqlite://{}", folder.join("welcome_email.db").display());
    let broker = asynqueue::connect(&url).await?;
    let (queue, page) = ("default".into(), Page::first(1_000));
    let tasks = broker.list(&queue, TaskState::Completed, page).await?.tasks;
    let (mut all, mut lost) = (BTreeSet::new(), BTreeSet::new());
    for task in tasks {
        let id = task.envelope.id.to_string();
        let is_lost = |kind| kind == FailureKind::LeaseExpired;
        if (task.envelope.failures().iter()).any(|failure| is_lost(failure.kind)) {
            lost.insert(id.clone());
        }
        all.insert(id);
    }
    broker.close().await;
    Ok((all, lost))
}

#[track_caller]
fn assert_accounted_for(text: &str) {
    for line in [
        "completed     993",
        "archived        7",
        "total        1000",
        "panic: panicked: no template for user 13",
        "unknown event: no handler is registered for event `email:newsletter`",
        "decode: invalid payload of `email:welcome`",
        "   4  error: mailbox does not exist",
        "993 users were sent an email",
    ] {
        assert!(text.contains(line), "`{line}` is missing in:\n{text}");
    }
}

#[tokio::test]
async fn a_thousand_emails_are_all_accounted_for_although_the_program_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();

    let text = run_half_way(folder);
    assert!(text.starts_with("1000 tasks enqueued, 0 found"), "{text}");
    assert!(!text.contains("total"), "killed too late:\n{text}");

    let text = run(folder);
    assert!(text.starts_with("0 tasks enqueued, 1000 found"), "{text}");
    assert_accounted_for(&text);
    let (completed, lost) = completed(folder).await.expect("the tasks");
    let sent = sent(folder);
    assert!(sent.keys().eq(&completed), "{sent:?}");
    for (user, times) in &sent {
        // A lost lease is an attempt more, which may have sent its email before the kill.
        let limit = if lost.contains(user) { 2 } else { 1 };
        assert!(*times <= limit, "user {user} was sent {times} emails");
    }
    assert!(
        !lost.is_empty(),
        "no task was running when the program was killed"
    );

    nothing_is_left_to_do(folder, &text);
}

/// A further start runs no task, and reports the same.
fn nothing_is_left_to_do(folder: &Path, before: &str) {
    let emails = sent(folder);
    let text = run(folder);
    let report = |text: &str| {
        text.split_once("state ")
            .map(|(_, report)| report.to_owned())
    };
    assert!(text.starts_with("0 tasks enqueued, 1000 found"), "{text}");
    let first = text.lines().find_map(ended);
    assert_eq!(first, Some(1_000), "{text}");
    assert_eq!(report(&text), report(before));
    assert_eq!(sent(folder), emails);
}
