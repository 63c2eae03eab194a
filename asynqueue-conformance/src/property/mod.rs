//! Random operations on a broker, each result compared with that of a model or of another broker.
//!
//! The [conformance suite](crate::suite) checks one behaviour at a time. This finds faults in their combinations. After
//! each operation every task is looked up, every list read and every count compared.
//!
//! [`check`] compares with a model: a list of tasks, searched from end to end, which is too slow to be used but too
//! simple to be wrong. [`compare`] compares with another broker. [`check_invariants`] compares with nothing and holds
//! for any broker while nothing else uses it.
//!
//! The order of tasks with the same time is the store's choice, as long as each of its lists is stable. So such tasks
//! are compared by id, and no operation's result depends on their order.
//!
//! ```
//! use asynqueue_conformance::property;
//! use asynqueue_core::{memory::MemoryBroker, testing::TestClock};
//! use proptest::{prelude::*, test_runner::TestRunner};
//! # fn main() {
//!
//! let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
//! TestRunner::default()
//!     .run(&property::operations(20), |operations| {
//!         let clock = TestClock::default();
//!         let broker = MemoryBroker::with_clock(clock.clone()).into();
//!         runtime.block_on(property::check(&broker, &operations, async |by| clock.advance(by)))?;
//!         Ok(())
//!     })
//!     .expect("the broker behaves as the model");
//! # }
//! ```

mod difference;
mod driven;
mod invariants;
mod lists;
pub(crate) mod model;
mod operation;
mod show;
mod state;
mod ties;

use std::time::Duration;

use asynqueue_core::broker::SharedBroker;

pub(crate) use self::show::outcome_in_words;
pub use self::{
    difference::Difference,
    invariants::check_invariants,
    operation::{OnlyIfExpired, Operation, Place, Shift, operations, operations_with_groups},
};
use self::{
    difference::{Fault, same},
    driven::Driven,
    model::Model,
    state::State,
};

/// The queues that operations are about.
pub(crate) const QUEUES: [&str; 2] = ["left", "right"];

/// The worker that leases tasks.
const WORKER: &str = "worker";

/// The reason of cancellations.
const CANCEL_REASON: &str = "why not";

/// Applies the operations to the broker, which must be empty, and to the model. Also checks the broker's
/// [invariants](check_invariants).
///
/// `advance` moves the broker's clock, which must stand still otherwise, so that every time can be compared to the
/// millisecond.
///
/// # Errors
///
/// When a result or the state of the broker differs from the model.
pub async fn check(
    broker: &SharedBroker,
    operations: &[Operation],
    advance: impl AsyncFn(Duration),
) -> Result<(), Difference> {
    let mut model = Model::new(broker.now());
    let mut driven = Driven::new(broker);
    for (index, operation) in operations.iter().enumerate() {
        advance_for(operation, &advance).await;
        model.now = broker.now();
        let step = async {
            for operation in ties::without(operation, &model.state(), model.now) {
                let answer = driven.apply(&operation).await?;
                same("answer", &answer, &model.apply(&operation))?;
            }
            invariants::invariants(broker).await?;
            State::of(broker).await?.compare(&model.state())
        };
        step.await
            .map_err(|fault: Fault| Difference::after(&operations[..=index], &fault))?;
    }
    Ok(())
}

/// Applies the operations to two brokers, which must be empty, and compares their results and states.
///
/// `advance` moves the clocks of both, which must show the same time and stand still otherwise. Brokers may number
/// their leases differently.
///
/// # Errors
///
/// When a result or the state of `broker` differs from `reference`.
pub async fn compare(
    reference: &SharedBroker,
    broker: &SharedBroker,
    operations: &[Operation],
    advance: impl AsyncFn(Duration),
) -> Result<(), Difference> {
    let (mut expected, mut found) = (Driven::new(reference), Driven::new(broker));
    let mut state = None;
    for (index, operation) in operations.iter().enumerate() {
        advance_for(operation, &advance).await;
        let step = async {
            same("the clock", &broker.now(), &reference.now())?;
            let before = match state.take() {
                Some(before) => before,
                None => State::of(reference).await?,
            };
            for operation in ties::without(operation, &before, reference.now()) {
                let expected = expected.apply(&operation).await?;
                same("answer", &found.apply(&operation).await?, &expected)?;
            }
            let after = State::of(reference).await?;
            State::of(broker).await?.compare(&after)?;
            Ok(after)
        };
        let after = step.await;
        let after =
            after.map_err(|fault: Fault| Difference::after(&operations[..=index], &fault))?;
        state = Some(after);
    }
    Ok(())
}

async fn advance_for(operation: &Operation, advance: &impl AsyncFn(Duration)) {
    if let Operation::Advance(by) = operation {
        advance(*by).await;
    }
}
