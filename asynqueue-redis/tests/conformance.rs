//! What every broker owes, on a single Redis.

use std::time::Duration;

use asynqueue_core::{
    SharedBroker, TaskId,
    testing::{TestClock, conformance::Harness},
};
use asynqueue_redis::{RedisBroker, RedisOptions};

/// A prefix of its own on one Redis.
#[derive(Default)]
struct OnRedis {
    clock: TestClock,
}

#[async_trait::async_trait]
impl Harness for OnRedis {
    async fn broker(&self) -> SharedBroker {
        let prefix = format!("test-{}", TaskId::generate());
        let options = RedisOptions::new("redis://127.0.0.1:7777")
            .expect("a URL")
            .prefix(&prefix)
            .expect("a prefix")
            .clock(self.clock.clone());
        RedisBroker::connect(options).await.expect("a Redis").into()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

asynqueue_core::conformance_suite!(OnRedis::default());
