//! Records and checks concurrent calls of a store: is there an order in which each of them took effect at one moment?
//!
//! The [suite](crate::suite) and the [property tests](crate::property) make one call after the other. Here several
//! clients call concurrently, calls fail or are cut off, and the store is behind [faults](Faults). A store is correct
//! if the calls have an order, each at a moment between its start and its end, in which the model of the property tests
//! returns the same responses. That is linearizability.
//!
//! [`check_store`] runs clients on a store. [`Recorder`] records your own calls, and [`History::judge`] checks them.
//!
//! # What is covered
//!
//! - `enqueue`, `lease`, `extend`, `settle`, `edit` and `tasks` of a [`Store`](asynqueue_core::broker::Store), in
//!   batches and over two queues, each checked separately.
//! - Priorities, turns, unique locks until success, retention, cancellation, tokens and versions that are no longer
//!   valid.
//! - Calls that fail or are cut off. Such a call may take effect at any moment after its start, even long after the
//!   error, or never. Tasks that it leased stay leased under an unknown token, or a later lease of the same worker
//!   returns them.
//! - An outcome that is settled again after its response was lost. It counts once, and returns the first response or
//!   that of an invalid token.
//! - Expired leases, without a clock: an extension by zero ends a lease, and all others last for an hour.
//!
//! Not covered: everything that depends on the clock, such as delays, locks and retentions that end, `forward`,
//! `expired` and `trim`; also groups, documents, pauses, statistics and lists.
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
