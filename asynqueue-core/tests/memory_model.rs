//! Whatever is done to it, the in-memory broker does what the model does.

use asynqueue_core::{
    MemoryBroker,
    testing::{TestClock, property},
};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 512,
        // A failing case is small enough after these; more would take minutes.
        max_shrink_iters: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn the_in_memory_broker_does_what_the_model_does(operations in property::operations(60)) {
        let clock = TestClock::default();
        let broker = MemoryBroker::with_clock(clock.clone()).into();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(property::check(&broker, &operations, async |by| clock.advance(by)));
    }
}
