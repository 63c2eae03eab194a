//! Random operations, compared with the in-memory broker.

use asynqueue_core::{
    MemoryBroker, TaskId,
    testing::{TestClock, property},
};
use asynqueue_redis::{RedisBroker, RedisOptions};
use proptest::test_runner::{Config, TestRunner};

#[test]
fn redis_does_what_the_model_does() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    TestRunner::new(Config::with_cases(200))
        .run(&property::operations(40), |operations| {
            let clock = TestClock::default();
            let prefix = format!("test-{}", TaskId::generate());
            let options = RedisOptions::new("redis://127.0.0.1:7777")
                .expect("a URL")
                .prefix(&prefix)
                .expect("a prefix")
                .clock(clock.clone());
            runtime.block_on(async {
                let broker = RedisBroker::connect(options).await.expect("a Redis").into();
                property::check(&broker, &operations, async |by| clock.advance(by)).await
            })?;
            Ok(())
        })
        .expect("the broker does what the model does");
}

#[test]
fn redis_does_what_the_memory_does() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    TestRunner::new(Config::with_cases(200))
        .run(&property::operations(40), |operations| {
            let clock = TestClock::default();
            let prefix = format!("test-{}", TaskId::generate());
            let options = RedisOptions::new("redis://127.0.0.1:7777")
                .expect("a URL")
                .prefix(&prefix)
                .expect("a prefix")
                .clock(clock.clone());
            runtime.block_on(async {
                let reference = MemoryBroker::with_clock(clock.clone()).into();
                let broker = RedisBroker::connect(options).await.expect("a Redis").into();
                let advance = async |by| clock.advance(by);
                property::compare(&reference, &broker, &operations, advance).await
            })?;
            Ok(())
        })
        .expect("the broker does what the in-memory broker does");
}
