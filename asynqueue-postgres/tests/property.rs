//! Random operations: PostgreSQL behaves as the in-memory broker and the model.

use asynqueue_conformance::property;
use asynqueue_core::{broker::SharedBroker, memory::MemoryBroker, testing::TestClock};
use asynqueue_postgres::{PostgresBroker, PostgresOptions};
use asynqueue_test_servers::Postgres;
use proptest::test_runner::{Config, TestRunner};

const CASES: u32 = 12;

/// A handle on a schema, as another process has one.
async fn handle(url: &str, clock: &TestClock) -> PostgresBroker {
    let options = PostgresOptions::new(url).expect("a valid URL");
    let broker = PostgresBroker::connect(options.clock(clock.clone())).await;
    broker.expect("a broker")
}

#[test]
fn postgres_behaves_as_the_model() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(Postgres::shared());
    TestRunner::new(Config::with_cases(CASES))
        .run(&property::operations(40), |operations| {
            let clock = TestClock::default();
            runtime.block_on(async {
                let broker: SharedBroker = handle(&server.new_schema(), &clock).await.into();
                property::check(&broker, &operations, async |by| clock.advance(by)).await
            })?;
            Ok(())
        })
        .expect("PostgreSQL behaves as the model");
}

#[test]
fn postgres_behaves_as_the_in_memory_broker() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(Postgres::shared());
    TestRunner::new(Config::with_cases(CASES))
        .run(&property::operations_with_groups(40), |operations| {
            let clock = TestClock::default();
            runtime.block_on(async {
                let reference = MemoryBroker::with_clock(clock.clone()).into();
                let broker = handle(&server.new_schema(), &clock).await.into();
                let advance = async |by| clock.advance(by);
                property::compare(&reference, &broker, &operations, advance).await
            })?;
            Ok(())
        })
        .expect("PostgreSQL behaves as the in-memory broker");
}
