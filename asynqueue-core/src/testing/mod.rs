//! Tools to test programs that use asynqueue.

mod clock;
mod crash;
mod drain;
mod enqueued;
pub mod fleet;
mod run;

pub use clock::TestClock;
pub use crash::{
    Crash, CrashError, CrashEverywhere, CrashFinding, CrashKind, CrashPoint, CrashSummary,
    Difference, crash_everywhere, crash_point,
};
pub use drain::{Drained, drain};
pub use enqueued::{Enqueued, EnqueuedTask};
pub use run::{RunInline, run_inline};
