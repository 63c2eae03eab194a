//! For tests: of brokers, and of programs that use asynqueue.

mod clock;
pub mod conformance;
pub mod property;

pub use clock::TestClock;
