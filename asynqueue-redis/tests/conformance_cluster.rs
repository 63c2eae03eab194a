//! The conformance suite on a Cluster of three masters and three replicas.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use asynqueue_conformance::{store::StoreHarness, suite::Harness};
use asynqueue_core::{
    broker::{SharedBroker, Store},
    task::TaskId,
    testing::TestClock,
};
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::RedisCluster;

/// One Cluster for all tests, kept by a thread that does not end.
static URL: LazyLock<String> = LazyLock::new(|| {
    let (started, url) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let cluster = runtime.block_on(RedisCluster::start());
        started.send(cluster.url()).expect("the receiver exists");
        loop {
            std::thread::park();
        }
    });
    url.recv().expect("a cluster")
});

/// Separate keys for each test.
#[derive(Default)]
struct OnCluster {
    clock: TestClock,
}

#[async_trait::async_trait]
impl Harness for OnCluster {
    async fn broker(&self) -> SharedBroker {
        self.connect().await.into()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

#[async_trait::async_trait]
impl StoreHarness for OnCluster {
    async fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.connect().await)
    }
}

impl OnCluster {
    async fn connect(&self) -> RedisBroker {
        let url = tokio::task::block_in_place(|| URL.as_str());
        let options = RedisOptions::new(url).expect("a URL");
        let options = options
            .prefix(TaskId::generate().as_str())
            .expect("a prefix");
        let broker = RedisBroker::connect(options.clock(self.clock.clone())).await;
        broker.expect("a connection")
    }
}

asynqueue_conformance::conformance_suite!(OnCluster::default());
asynqueue_conformance::store_suite!(OnCluster::default());
