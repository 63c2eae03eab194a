//! After any operations, the in-memory broker behaves as the model.

use asynqueue_conformance::property::{self, Operation};
use asynqueue_core::{broker::SharedBroker, memory::MemoryBroker, testing::TestClock};
use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        // A failing case is small enough after these; more would take minutes.
        max_shrink_iters: 3_000,
        ..ProptestConfig::default()
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime")
}

fn broker(clock: &TestClock) -> SharedBroker {
    MemoryBroker::with_clock(clock.clone()).into()
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn the_in_memory_broker_behaves_as_the_model(operations in property::operations(60)) {
        let clock = TestClock::default();
        let checked = broker(&clock);
        runtime().block_on(property::check(&checked, &operations, async |by| clock.advance(by)))?;
    }
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn two_brokers_of_a_kind_behave_alike(operations in property::operations(60)) {
        let clock = TestClock::default();
        let (one, other) = (broker(&clock), broker(&clock));
        let advance = async |by| clock.advance(by);
        runtime().block_on(property::compare(&one, &other, &operations, advance))?;
        runtime().block_on(property::check_invariants(&one))?;
    }
}

/// Otherwise the tests above would pass for brokers that do nothing.
#[test]
fn different_brokers_are_reported_with_the_operations() {
    let clock = TestClock::default();
    let (one, other) = (broker(&clock), broker(&clock));
    let operations = [Operation::Pause(0, true), Operation::Forward(3)];
    let difference = runtime().block_on(async {
        // Not visible to the comparison.
        other.set_paused(&["right".into()], true).await?;
        Ok::<_, asynqueue_core::broker::BrokerError>(
            property::compare(&one, &other, &operations, async |by| clock.advance(by)).await,
        )
    });
    let found = difference.expect("a broker that is open");
    let text = found.expect_err("one queue is paused").to_string();
    assert!(
        text.starts_with("   1. pause left\nright: stats\n"),
        "{text}"
    );
}
