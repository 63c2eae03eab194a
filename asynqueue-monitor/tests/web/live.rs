//! The cost of live updates for the broker.

use std::time::Duration;

use asynqueue_core::{
    broker::SharedBroker, inspector::Inspector, producer::Producer, task::TaskState,
};
use asynqueue_monitor::{Endpoint, Monitor};
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::RedisServer;
use reqwest::Response;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::site::Email;

/// Reads a number of updates.
async fn read(response: &mut Response, updates: usize) {
    let mut received = 0;
    while received < updates {
        let chunk = response.chunk().await.expect("the stream is open");
        let chunk = chunk.expect("the stream is open");
        received += String::from_utf8_lossy(&chunk).matches("data:").count();
    }
}

async fn commands(broker: &SharedBroker) -> u64 {
    let nodes = Inspector::new(broker.clone()).nodes().await;
    let nodes = nodes.expect("read");
    let mut info = nodes[0].info.iter();
    let found = info.find(|(name, _)| name == "total_commands_processed");
    let (_, count) = found.expect("a detail");
    count.parse().expect("a number")
}

/// A monitor of a Redis with one task.
struct System {
    broker: SharedBroker,
    endpoint: Endpoint,
    _redis: RedisServer,
}

impl System {
    async fn start() -> Self {
        let redis = RedisServer::start().await;
        let options = RedisOptions::new(&redis.url()).expect("an address");
        let broker = RedisBroker::connect(options).await.expect("connected");
        let broker: SharedBroker = broker.into();
        let email = Email { to: "ada".into() };
        let task = Producer::new(broker.clone()).enqueue(email).await;
        task.expect("accepted");
        let endpoint = Monitor::new(broker.clone()).serve("127.0.0.1:0").await;
        Self {
            broker,
            endpoint: endpoint.expect("served"),
            _redis: redis,
        }
    }

    async fn get(&self, path: &str) -> Response {
        let url = format!("http://{}{path}", self.endpoint.address());
        reqwest::get(url).await.expect("a response")
    }

    async fn commands(&self) -> u64 {
        commands(&self.broker).await
    }
}

/// The commands that Redis receives during four updates, with a number of viewers.
async fn commands_for(viewers: usize) -> u64 {
    let system = System::start().await;
    let mut responses = Vec::new();
    for _ in 0..viewers {
        responses.push(system.get("/live").await);
    }
    for response in &mut responses {
        read(response, 1).await;
    }
    let before = system.commands().await;
    read(&mut responses[0], 4).await;
    system.commands().await - before
}

/// The commands that Redis receives while a number of viewers load the same page concurrently.
async fn commands_for_pages(viewers: usize) -> u64 {
    let system = System::start().await;
    let mut updates = system.get("/live").await;
    read(&mut updates, 2).await;
    let before = system.commands().await;
    let pages = (0..viewers).map(|_| system.get("/queues/mail"));
    for response in futures_util::future::join_all(pages).await {
        let page = response.text().await.expect("text");
        assert!(page.contains("email:send"), "{page}");
    }
    system.commands().await - before
}

#[tokio::test]
async fn concurrent_page_loads_share_their_reads() {
    let (one, many) = (commands_for_pages(1).await, commands_for_pages(30).await);
    assert!(many < 5 * one, "{one} commands for one, {many} for many");
}

#[tokio::test]
async fn viewers_share_the_polling() {
    let (one, many) = (commands_for(1).await, commands_for(30).await);
    assert!(many < 2 * one, "{one} commands for one, {many} for many");
}

/// All of a thousand tasks are archived.
#[tokio::test]
async fn a_change_completes_after_its_client_disconnects() {
    let system = System::start().await;
    let producer = Producer::new(system.broker.clone());
    let hour = Duration::from_secs(3600);
    let emails = (0..1_000).map(|n| Email { to: n.to_string() });
    let sent = producer.enqueue_many_with(emails, |email, call| {
        call.id(format!("later-{}", email.to)).delay(hour)
    });
    assert!(sent.await.iter().all(Result::is_ok));
    let ids = (0..1_000).map(|n| format!("&id=later-{n}"));
    let body = format!(
        "state=scheduled&which=chosen&do=archive{}",
        ids.collect::<String>()
    );
    let length = body.len();
    let mut connection = TcpStream::connect(system.endpoint.address())
        .await
        .expect("connected");
    let head = format!(
        "POST /queues/mail/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\
         content-type: application/x-www-form-urlencoded\r\n\r\n{body}"
    );
    connection.write_all(head.as_bytes()).await.expect("sent");
    drop(connection);
    let inspector = Inspector::new(system.broker.clone());
    asynqueue_test_servers::eventually("all are archived", async || {
        let queue = inspector.queue(&"mail".into()).await.expect("read");
        queue.stats.count(TaskState::Archived) == 1_000
    })
    .await;
}
