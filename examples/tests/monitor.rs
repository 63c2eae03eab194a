//! Runs the service and checks the pages of its monitor.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use asynqueue_test_servers::eventually;

#[tokio::test]
async fn a_service_shows_its_tasks_and_hides_their_passwords() {
    let mut service = Command::new(env!("CARGO_BIN_EXE_monitor"))
        .arg("127.0.0.1:0")
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut line = String::new();
    let read = BufReader::new(service.stdout.take().expect("its output")).read_line(&mut line);
    read.expect("a line");
    let (url, _) = line.split_once(',').expect("an address");
    let client = reqwest::Client::new();
    let page = async |path: &str| {
        let request = client.get(format!("{url}{path}"));
        let request = request.basic_auth("ada", Some("change me"));
        let response = request.send().await.expect("a response");
        response.text().await.expect("text")
    };
    let shows = async |path: &str, part: &str| {
        eventually(part, async || page(path).await.contains(part)).await;
    };
    shows("/queues/email?state=archived", "550 no such mailbox").await;
    shows("/queues/email?state=retry", "421 try again later").await;
    shows("/queues/reports?state=active", "report:build").await;
    shows("/schedules", "@every 10s").await;
    shows("/api/queues/email/tasks?state=completed", "[redacted]").await;
    let tasks = page("/api/queues/email/tasks?state=completed").await;
    assert!(!tasks.contains("secret-"), "{tasks}");
    service.kill().expect("killed");
    service.wait().expect("ended");
}
