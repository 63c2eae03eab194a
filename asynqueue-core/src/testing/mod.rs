//! For tests: of brokers, and of programs that use asynqueue.

mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod drain;
mod enqueued;
#[cfg(feature = "conformance")]
pub mod property;
mod run;

pub use clock::TestClock;
pub use drain::{Drained, drain};
pub use enqueued::{Enqueued, EnqueuedTask};
pub use run::{RunInline, run_inline};
