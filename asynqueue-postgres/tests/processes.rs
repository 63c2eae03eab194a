//! Several processes use one database. What one of them does, the others learn without polling.

mod common;

use std::{sync::Arc, time::Duration};

use asynqueue_conformance::processes::{self, ProcessHarness};
use asynqueue_core::{process::Payload, producer::Producer, server::Server};
use asynqueue_macros::Task;
use asynqueue_postgres::PostgresBroker;
use asynqueue_test_servers::Postgres;
use common::child::{self, Child};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize, Task)]
#[task(event = "double", crate = asynqueue_core, output = u64, retention = "1h")]
struct Double(u64);

/// What this binary does in other processes.
#[test]
#[ignore = "started by other tests"]
fn child() {
    let Some((role, url)) = child::role() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.enable_all().build().expect("a runtime");
    match role.as_str() {
        processes::ROLE => {
            runtime.block_on(async { processes::serve(common::open(&url).await).await });
        }
        "server" => runtime.block_on(run_tasks(&url)),
        role => panic!("unknown role {role}"),
    }
}

/// In another process: runs tasks until the parent closes the pipe. It never polls.
async fn run_tasks(url: &str) {
    let double = async |task: Payload<Double>| Ok::<_, std::convert::Infallible>(2 * task.0.0);
    let server = Server::builder(common::open(url).await)
        .queue("default", 1)
        .poll_interval(Duration::from_secs(3_600))
        .process(double);
    let server = server.start().await.expect("a server");
    child::respond("ready");
    let ended = tokio::task::spawn_blocking(|| child::requests().count());
    ended.await.expect("the pipe is closed");
    server.shutdown().await.expect("ended in order");
}

/// An empty schema.
struct InSchema {
    _server: Arc<Postgres>,
    url: String,
}

impl InSchema {
    async fn create() -> Self {
        let server = Postgres::shared().await;
        Self {
            url: server.new_schema(),
            _server: server,
        }
    }
}

#[async_trait::async_trait]
impl ProcessHarness for InSchema {
    type Store = PostgresBroker;

    fn address(&self) -> String {
        self.url.clone()
    }

    async fn store(&self) -> PostgresBroker {
        common::open(&self.url).await
    }

    async fn waiters(&self) -> u64 {
        let client = Postgres::connect(&self.url).await;
        let rows = client.query_one("select count(*) from waiter", &[]).await;
        rows.expect("a row").get::<_, i64>(0) as u64
    }
}

asynqueue_conformance::processes_suite!(InSchema::create().await);

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_process_runs_tasks_without_polling() {
    let schema = InSchema::create().await;
    let producer = Producer::new(schema.store().await);
    let worker = Child::start("server", &schema.url);
    for n in 0..20 {
        let handle = producer.enqueue(Double(n)).await.expect("enqueued");
        let result = tokio::time::timeout(common::LIMIT, handle.result()).await;
        assert_eq!(result.expect("it runs").expect("completed"), 2 * n);
    }
    // A delayed task is due before the next poll too.
    let delayed = producer
        .enqueue(Double(50))
        .delay(Duration::from_millis(1_200));
    let handle = delayed.await.expect("enqueued");
    let result = tokio::time::timeout(common::LIMIT, handle.result()).await;
    assert_eq!(result.expect("it runs").expect("completed"), 100);
    worker.end();
}
