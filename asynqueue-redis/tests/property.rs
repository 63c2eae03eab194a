//! Random operations: Redis behaves as the in-memory broker and the model.

use asynqueue_conformance::property;
use asynqueue_core::{
    broker::SharedBroker, memory::MemoryBroker, task::TaskId, testing::TestClock,
};
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::RedisServer;
use proptest::test_runner::{Config, TestRunner};

const CASES: u32 = 48;

async fn broker(server: &RedisServer, clock: &TestClock) -> SharedBroker {
    let options = RedisOptions::new(&server.url()).expect("a URL");
    let options = options
        .prefix(TaskId::generate().as_str())
        .expect("a prefix");
    let broker = RedisBroker::connect(options.clock(clock.clone())).await;
    broker.expect("a connection").into()
}

#[test]
fn redis_behaves_as_the_model() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(RedisServer::start());
    TestRunner::new(Config::with_cases(CASES))
        .run(&property::operations(40), |operations| {
            let clock = TestClock::default();
            runtime.block_on(async {
                let broker = broker(&server, &clock).await;
                property::check(&broker, &operations, async |by| clock.advance(by)).await
            })?;
            Ok(())
        })
        .expect("Redis behaves as the model");
}

#[test]
fn redis_behaves_as_the_in_memory_broker() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(RedisServer::start());
    TestRunner::new(Config::with_cases(CASES))
        .run(&property::operations_with_groups(40), |operations| {
            let clock = TestClock::default();
            runtime.block_on(async {
                let reference = MemoryBroker::with_clock(clock.clone()).into();
                let broker = broker(&server, &clock).await;
                let advance = async |by| clock.advance(by);
                property::compare(&reference, &broker, &operations, advance).await
            })?;
            Ok(())
        })
        .expect("Redis behaves as the in-memory broker");
}
