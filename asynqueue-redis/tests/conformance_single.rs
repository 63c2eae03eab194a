//! The conformance suite on a single Redis. Also checks that no script uses a key that it did not receive, and that
//! everything works as the most restricted user in the documentation.

#[path = "common/rules.rs"]
mod rules;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use asynqueue_conformance::{store::StoreHarness, suite::Harness};
use asynqueue_core::{
    broker::{SharedBroker, Store},
    testing::TestClock,
};
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::{Monitor, RedisServer, undeclared_keys};
use tokio::runtime::Handle;

/// A server for each test. A monitor sees all of its commands.
#[derive(Default)]
struct OnOneServer {
    clock: TestClock,
    server: OnceLock<(RedisServer, Monitor)>,
}

#[async_trait::async_trait]
impl Harness for OnOneServer {
    async fn broker(&self) -> SharedBroker {
        self.connect().await.into()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

#[async_trait::async_trait]
impl StoreHarness for OnOneServer {
    async fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.connect().await)
    }
}

impl OnOneServer {
    async fn connect(&self) -> RedisBroker {
        let server = RedisServer::start().await;
        rules::Rules::ByName.apply(&server, &[]).await;
        let monitor = Monitor::start(&server).await;
        let options = RedisOptions::new(&rules::as_user(&server.url())).expect("a URL");
        let broker = RedisBroker::connect(options.clock(self.clock.clone())).await;
        self.server.set((server, monitor)).expect("called once");
        broker.expect("a connection")
    }
}

impl Drop for OnOneServer {
    fn drop(&mut self) {
        if let Some((_server, monitor)) = self.server.take()
            && !std::thread::panicking()
        {
            let stop = || Handle::current().block_on(monitor.stop());
            let seen = tokio::task::block_in_place(stop);
            assert!(!seen.is_empty(), "the monitor saw no command");
            let undeclared = undeclared_keys(&seen);
            assert!(undeclared.is_empty(), "not among KEYS: {undeclared:?}");
        }
    }
}

asynqueue_conformance::conformance_suite!(OnOneServer::default());
asynqueue_conformance::store_suite!(OnOneServer::default());
