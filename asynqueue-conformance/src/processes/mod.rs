//! Requirements of a store that several processes share: what one of them does, the others learn without polling.
//!
//! A store's test binary implements [`ProcessHarness`], runs [`processes_suite!`](crate::processes_suite) on it, and
//! plays the role [`ROLE`] by [`serve`] in an ignored test named `child`:
//!
//! ```ignore
//! #[test]
//! #[ignore = "started by other tests"]
//! fn child() {
//!     if let Some((role, address)) = child::role() {
//!         assert_eq!(role, processes::ROLE);
//!         let runtime = tokio::runtime::Runtime::new().expect("a runtime");
//!         runtime.block_on(async { processes::serve(MyStore::connect(&address).await).await });
//!     }
//! }
//!
//! asynqueue_conformance::processes_suite!(MyHarness::start().await);
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "these are tests"
)]

mod role;
pub mod suite;

use async_trait::async_trait;
use asynqueue_core::broker::Store;

pub use self::role::serve;

/// The role of the processes that the tests start.
pub const ROLE: &str = "store";

/// A store for one test, which other processes reach by its address.
#[async_trait]
pub trait ProcessHarness: Send + Sync {
    /// The store of a process.
    type Store: Store + Clone;

    /// What another process connects to.
    fn address(&self) -> String;

    /// This process's store. It is empty when a test starts.
    async fn store(&self) -> Self::Store;

    /// How many waiters for the ends of tasks all processes can see.
    async fn waiters(&self) -> u64;
}

/// Runs the [tests of several processes](crate::processes). Takes an expression that creates a
/// [`ProcessHarness`](crate::processes::ProcessHarness), and may await. The calling crate needs `tokio` with its
/// macros.
#[macro_export]
macro_rules! processes_suite {
    ($harness:expr) => {
        $crate::__processes_tests! { $harness;
            an_idle_process_hears_of_tasks_of_another_one,
            cancellation_reaches_the_process_that_runs_the_task,
            a_result_of_another_process_arrives_with_and_without_retention,
            the_end_of_an_archived_task_or_a_deleted_queue_reaches_a_waiter,
            the_result_of_a_former_task_with_the_same_id_reaches_no_waiter,
            progress_is_visible_in_other_processes,
        }
    };
}

/// Generates one test for each name. Used by [`processes_suite!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __processes_tests {
    ($harness:expr; $($test:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $test() {
            $crate::processes::suite::$test(&$harness).await;
        })*
    };
}
