//! The command on a SQLite file that another process uses, as users run it.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use asynqueue::{broker::SharedBroker, inspector::Inspector, prelude::*, task::TaskState};
use asynqueue_test_servers::{Chromedriver, eventually};
use fantoccini::{ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email", queue = "mail")]
struct Email {
    to: String,
}

async fn refuse(_: Payload<Email>) -> Result<(), TaskError> {
    Err(TaskError::skip_retry("no such mailbox"))
}

/// Ends the command when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the monitor, and reads its address.
fn monitor(url: &str) -> (Running, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_asynqueue"));
    command.args(["monitor", "--listen", "127.0.0.1:0", "--broker", url]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("runs");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let address = lines.next().expect("a line").expect("text");
    (Running(child), address)
}

/// Waits until the task is in a state.
async fn until(broker: &SharedBroker, state: TaskState) {
    let inspector = Inspector::new(broker.clone());
    eventually(&format!("the task is {state}"), || async {
        let queue = inspector.queue(&"mail".into()).await.expect("read");
        queue.stats.count(state) == 1
    })
    .await;
}

/// Leaves an archived task.
async fn archive_one(broker: &SharedBroker) {
    let email = Email { to: "ada".into() };
    let producer = Producer::new(broker.clone());
    let enqueue = producer.enqueue(email).id("welcome-ada");
    enqueue.await.expect("accepted");
    let server = Server::builder(broker.clone())
        .queue("mail", 1)
        .process(refuse);
    let server = server.start().await.expect("a server");
    until(broker, TaskState::Archived).await;
    server.shutdown().await.expect("ended in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_monitor_of_another_process_shows_and_retries_a_task() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("tasks.db").display());
    let broker = asynqueue::connect(&url).await.expect("a broker");
    archive_one(&broker).await;
    let (_monitor, address) = monitor(&url);

    let driver = Chromedriver::start().await;
    let options = json!({ "goog:chromeOptions": { "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage"] } });
    let browser = ClientBuilder::new(HttpConnector::new())
        .capabilities(options.as_object().expect("an object").clone())
        .connect(&driver.url())
        .await
        .expect("a browser");
    let address = address.trim_end_matches('/');
    browser
        .goto(&format!("{address}/queues/mail?state=archived"))
        .await
        .expect("a page");
    let css = "input[name=id][value=welcome-ada]";
    browser
        .find(Locator::Css(css))
        .await
        .expect(css)
        .click()
        .await
        .expect("selected");
    let css = "button[value=retry]";
    browser
        .find(Locator::Css(css))
        .await
        .expect(css)
        .click()
        .await
        .expect("clicked");

    until(&broker, TaskState::Pending).await;
    browser.close().await.expect("closed");
}

#[test]
fn the_benchmark_measures_a_file_and_empties_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!(
        "sqlite://{}?durability=normal",
        folder.path().join("bench.db").display()
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_asynqueue"));
    command.args([
        "bench",
        "--tasks",
        "500",
        "--producers",
        "8",
        "--batch",
        "100",
        "--json",
        "--broker",
        &url,
    ]);
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(
        (&report["lost"], &report["duplicated"]),
        (&0.into(), &0.into())
    );
    let bytes = report["bytes_per_waiting_task"].as_f64().expect("a size");
    assert!((100.0..1_000.0).contains(&bytes), "{report}");
}
