//! What real servers report of their limits.

use std::time::{Duration, Instant};

use asynqueue_core::{
    broker::{LimitInfo, LimitKind, ServerInfo},
    inspector::{Cause, Inspector, QueueWait},
    layer::{ConcurrencyLimitLayer, RateLimitLayer},
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    producer::Producer,
    registry::ProcessWrapper,
    server::{Server, ServerBuilder, ServerHandle},
};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

/// How long a test waits for a report. Servers report every five seconds.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize, Task)]
#[task(event = "video:encode", queue = "video", crate = asynqueue_core)]
struct Encode;

/// Runs until the server stops.
async fn stuck(_: Payload<Encode>, _: Context) -> Result<(), TaskError> {
    std::future::pending().await
}

struct Fixture {
    inspector: Inspector,
    _server: ServerHandle,
}

impl Fixture {
    /// A server with five tasks.
    async fn new(setup: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let broker = MemoryBroker::new();
        let producer = Producer::new(broker.clone());
        for _ in 0..5 {
            producer.enqueue(Encode).await.unwrap();
        }
        let server = Server::builder(broker.clone()).name("web-1");
        let server = server.cancel_grace(Duration::ZERO);
        let server = setup(server.shutdown_timeout(Duration::ZERO));
        Self {
            inspector: Inspector::new(broker),
            _server: server.start().await.unwrap(),
        }
    }

    /// Waits until a value is there.
    async fn until<T>(&self, what: &str, read: impl AsyncFn(&Inspector) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = read(&self.inspector).await {
                return found;
            }
            assert!(Instant::now() < deadline, "timed out waiting until {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The first cause of this kind.
    async fn cause(&self, kind: &str) -> (QueueWait, Cause) {
        self.until(kind, async |inspector| {
            let wait = inspector.why_queue_waits(&"video".into()).await.unwrap();
            let cause = wait.causes.iter().find(|cause| cause.kind() == kind)?;
            Some((wait.clone(), cause.clone()))
        })
        .await
    }

    /// The limit of the server, once tasks wait for it.
    async fn limit(&self) -> LimitInfo {
        let (_, cause) = self.cause("limit").await;
        match cause {
            Cause::Limit { limit, .. } => limit,
            other => panic!("{other:?}"),
        }
    }

    async fn server(&self) -> ServerInfo {
        self.until("a server has reported", async |inspector| {
            inspector.servers().await.unwrap().pop()
        })
        .await
    }
}

#[tokio::test]
async fn a_queue_at_its_limit_has_its_running_tasks_as_holders() {
    let fixture = Fixture::new(|server| {
        let server = server.process(stuck).queue("video", 1);
        server.queue_concurrency("video", 2).concurrency(8)
    })
    .await;
    let (wait, cause) = fixture.cause("queue_limit").await;
    let Cause::QueueLimit {
        holders, servers, ..
    } = cause
    else {
        panic!("{cause:?}")
    };
    assert_eq!(holders.len(), 2);
    assert_eq!((servers[0].running, servers[0].max), (2, Some(2)));
    assert_eq!((wait.pending, wait.takers.len()), (3, 1));
}

#[tokio::test]
async fn a_rate_limit_reports_what_is_used_and_when_the_next_is_due() {
    let hour = Duration::from_secs(3600);
    let process = ProcessWrapper::new(stuck).layer(RateLimitLayer::new(2, hour));
    let fixture = Fixture::new(|server| server.process(process)).await;
    let limit = fixture.limit().await;
    assert_eq!((limit.kind, limit.max), (LimitKind::Rate, 2));
    assert_eq!((limit.period, limit.used), (Some(hour), 2));
    assert_eq!(limit.events, ["video:encode"]);
    assert_eq!(limit.queues, ["video"]);
    assert_eq!(limit.waiting, 3);
    let wait = limit.next.unwrap().since(fixture.inspector.now());
    assert!(wait > hour / 3 && wait <= hour / 2, "{wait:?}");
}

#[tokio::test]
async fn a_concurrency_limit_around_a_server_reports_all_its_events() {
    let fixture = Fixture::new(|server| {
        let server = server.process(stuck).concurrency(8);
        server.layer(ConcurrencyLimitLayer::new(2))
    })
    .await;
    let limit = fixture.limit().await;
    assert_eq!((limit.kind, limit.max), (LimitKind::Concurrency, 2));
    assert_eq!((limit.used, limit.next), (2, None));
    assert_eq!(limit.events, ["video:encode"]);
}

#[tokio::test]
async fn a_server_without_limits_reports_none() {
    let fixture = Fixture::new(|server| server.process(stuck)).await;
    let server = fixture.server().await;
    assert_eq!((server.limits, server.version), (vec![], None));
}

#[tokio::test]
async fn a_server_reports_the_version_of_its_program() {
    let fixture = Fixture::new(|server| server.process(stuck).version("1.4.2")).await;
    assert_eq!(fixture.server().await.version.as_deref(), Some("1.4.2"));
}
