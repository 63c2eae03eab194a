//! For tests of programs that use asynqueue.

mod clock;
mod drain;
mod enqueued;
pub mod fleet;
mod run;

pub use clock::TestClock;
pub use drain::{Drained, drain};
pub use enqueued::{Enqueued, EnqueuedTask};
pub use run::{RunInline, run_inline};
