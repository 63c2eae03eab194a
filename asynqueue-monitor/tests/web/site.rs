//! A running monitor, on a broker with a task in each state.

use std::time::Duration;

use asynqueue_core::{
    broker::{SharedBroker, TaskInfo},
    inspector::Inspector,
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::{Server, ServerHandle},
    task::{TaskId, TaskRef, TaskState},
};
use asynqueue_macros::Task;
use asynqueue_monitor::{Endpoint, Monitor};
use asynqueue_test_servers::eventually;
use serde::{Deserialize, Serialize};

const AN_HOUR: Duration = Duration::from_secs(3600);

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:send", queue = "mail", retention = "1h", max_retry = 1, crate = asynqueue_core)]
pub(crate) struct Email {
    pub(crate) to: String,
}

async fn send(email: Payload<Email>, _: Context) -> Result<(), TaskError> {
    match email.to.as_str() {
        "fails" => Err(TaskError::skip_retry("no <b>such</b> mailbox")),
        "panics" => panic!("a bug"),
        "waits" => Err(TaskError::retry_after(AN_HOUR, "busy")),
        _ => Ok(()),
    }
}

pub(crate) struct Site {
    pub(crate) broker: SharedBroker,
    pub(crate) inspector: Inspector,
    pub(crate) endpoint: Endpoint,
    pub(crate) client: reqwest::Client,
}

impl Site {
    pub(crate) async fn of(monitor: impl FnOnce(Monitor) -> Monitor) -> Self {
        let broker = MemoryBroker::new();
        fill(&broker).await;
        Self::with(broker.into(), monitor).await
    }

    /// The monitor of a broker as it is.
    pub(crate) async fn on(broker: SharedBroker) -> Self {
        Self::with(broker, |monitor| monitor).await
    }

    async fn with(broker: SharedBroker, monitor: impl FnOnce(Monitor) -> Monitor) -> Self {
        let monitor = monitor(Monitor::new(broker.clone()).grace(Duration::ZERO));
        let endpoint = monitor.serve("127.0.0.1:0").await.expect("served");
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        Self {
            inspector: Inspector::new(broker.clone()),
            broker,
            endpoint,
            client: client.build().expect("a client"),
        }
    }

    pub(crate) async fn new() -> Self {
        Self::of(|monitor| monitor).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.endpoint.address())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let response = self
            .client
            .get(self.url(path))
            .send()
            .await
            .expect("a response");
        (
            response.status().as_u16(),
            response.text().await.expect("text"),
        )
    }

    /// A page that must exist.
    pub(crate) async fn page(&self, path: &str) -> String {
        let (status, page) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {page}");
        page
    }

    /// A form, about to be sent.
    pub(crate) fn form(&self, path: &str, form: &str) -> reqwest::RequestBuilder {
        let request = self.client.post(self.url(path)).body(form.to_owned());
        request.header("content-type", "application/x-www-form-urlencoded")
    }

    /// Sends a form. Returns the status, and the target of the redirect or the body.
    pub(crate) async fn post(&self, path: &str, form: &str) -> (u16, String) {
        let response = self.form(path, form).send().await;
        let response = response.expect("a response");
        let status = response.status().as_u16();
        let to = response.headers().get("location");
        let to = to.map(|to| to.to_str().expect("text").to_owned());
        let text = response.text().await.expect("text");
        (status, to.unwrap_or(text))
    }

    /// A task of the queue.
    pub(crate) async fn task(&self, id: &str) -> TaskInfo {
        let task = TaskRef::new("mail", TaskId::new(id).expect("an id"));
        let info = self.inspector.task(&task).await.expect("read");
        info.expect("it exists")
    }

    /// Waits until a number of tasks of the queue are in a state.
    pub(crate) async fn until(&self, state: TaskState, count: u64) {
        let what = format!("{count} tasks {state}");
        eventually(&what, async || self.count(state).await == count).await;
    }

    /// Waits until a page contains a text.
    pub(crate) async fn until_says(&self, path: &str, text: &str) {
        eventually(text, async || self.page(path).await.contains(text)).await;
    }

    /// A server with its own queue. Waits for its first heartbeat.
    pub(crate) async fn serve(&self, name: &'static str) -> ServerHandle {
        let broker = self.broker.clone();
        let server = Server::builder(broker).name(name).queue("other", 1);
        let server = server.process(send).start().await.expect("started");
        let is_listed = async || {
            let servers = self.inspector.servers().await.expect("read");
            servers.iter().any(|server| server.name == name)
        };
        eventually("the server is listed", is_listed).await;
        server
    }

    /// Enqueues a number of tasks.
    pub(crate) async fn enqueue(&self, tasks: usize) {
        let producer = Producer::new(self.broker.clone());
        let to = "ada".to_owned();
        let results = producer
            .enqueue_many((0..tasks).map(|_| Email { to: to.clone() }))
            .await;
        assert!(results.iter().all(Result::is_ok));
    }

    /// How many tasks of the queue are in a state.
    pub(crate) async fn count(&self, state: TaskState) -> u64 {
        let queue = self.inspector.queue(&"mail".into()).await.expect("a queue");
        queue.stats.count(state)
    }
}

/// Creates one task in each state, with the state as its ID.
async fn fill(broker: &MemoryBroker) {
    let producer = Producer::new(broker.clone());
    let email = |to: &str| Email { to: to.to_owned() };
    for (id, to) in [
        ("completed", "ada"),
        ("archived", "fails"),
        ("retry", "waits"),
    ] {
        producer.enqueue(email(to)).id(id).await.expect("accepted");
    }
    let server = Server::builder(broker.clone()).process(send);
    let server = server.start().await.expect("started");
    let done = async {
        while server.stats().finished < 3 || pending(broker).await > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(30), done).await;
    in_time.expect("all are done");
    server.shutdown().await.expect("stopped");
    let later = producer
        .enqueue(email("ada"))
        .id("scheduled")
        .delay(AN_HOUR);
    later.await.expect("accepted");
    let hostile = email("<script>alert(1)</script>");
    producer
        .enqueue(hostile)
        .id("pending<script>")
        .header("traceparent", "\"><script>")
        .await
        .expect("accepted");
}

async fn pending(broker: &MemoryBroker) -> u64 {
    let queue = Inspector::new(broker.clone())
        .queue(&"mail".into())
        .await
        .expect("a queue")
        .stats;
    queue.count(TaskState::Pending) + queue.count(TaskState::Active)
}
