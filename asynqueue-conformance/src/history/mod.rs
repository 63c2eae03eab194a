//! Concurrent calls of a store, recorded and judged: is there an order in which each of them had its effect at one moment?
//!
//! The [suite](crate::suite) and the [property tests](crate::property) make one call after the other. Here several clients call at the same time,
//! calls fail or are cut off, and the store is behind whatever [breaks](Faults). A store is right if the calls can be put into an
//! order, each somewhere between its begin and its end, in which the model of the property tests answers each as the store did. That
//! is linearizability.
//!
//! [`check_store`] lets clients loose on a store. [`Recorder`] records calls of your own, and [`History::judge`] judges them.
//!
//! # What is covered
//!
//! - `enqueue`, `lease`, `extend`, `settle`, `edit` and `tasks` of a [`Store`](asynqueue_core::broker::Store), in batches and over
//!   two queues, each judged by itself.
//! - Priorities, turns, unique locks until success, retention, cancellation, tokens that are over, versions that are over.
//! - Calls that fail or are cut off: such a call may have had its effect at any moment after its begin, also long after the
//!   error, or never. What was leased by it stays leased under a token that nobody knows; or a later lease of the same worker answers with it.
//! - An outcome that is settled again after its answer was lost: it counts once, and is answered as the first time or as one that is
//!   over.
//! - Leases that have ended, without a clock: an extension by zero ends a lease, and all others last for an hour.
//!
//! Not covered is what depends on the clock: delays that end, locks and retentions that end, `forward`, `expired` and `trim`. Nor are
//! groups, documents, pauses, figures and lists.
//!
//! ```
//! use std::sync::Arc;
//!
//! use asynqueue_conformance::history::{self, Plan};
//! use asynqueue_core::memory::MemoryBroker;
//!
//! # tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async {
//! let store = Arc::new(MemoryBroker::new());
//! let judged = history::check_store(&[store], &Plan::new(1), &()).await;
//! assert_eq!(judged.expect("an order of all calls").unanswered, 0);
//! # });
//! ```

mod call;
mod foresight;
mod judge;
mod recorder;
mod report;
mod run;
mod script;
mod search;
mod show;
mod spec;
mod steps;
mod subject;
mod version;

pub use self::{
    call::{Answer, Call, Client, Request},
    judge::{History, Promises, Summary},
    recorder::Recorder,
    report::Violation,
    run::{Faults, Plan, check_store, record},
    subject::Subject,
};
