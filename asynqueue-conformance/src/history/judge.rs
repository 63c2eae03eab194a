//! Decides whether the calls of a history have an order in which each response is correct.

use std::time::Duration;

use asynqueue_core::task::Name;

use super::{
    call::Call,
    report::Violation,
    search::{Found, search},
    spec::Spec,
    steps::{Steps, View},
};
use crate::property::QUEUES;

/// What a store guarantees for its calls beyond the traits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promises {
    /// Whether a call leases everything it takes from a queue in one step. Otherwise tasks with the same token are
    /// taken in one step, and a call may consist of several. Default true.
    pub leases_at_once: bool,
    /// Whether a lease takes the tasks that are first, whatever happens at the same time. Otherwise it may pass over those
    /// that became pending during the call, and tasks that a concurrent lease or edit may hold. It then takes
    /// later ones first, or fewer than there are. A queue of which it returns nothing had no pending task, unless it
    /// has tasks of a queue before. Only if calls lease in one step and are not cut off. Default true.
    pub leases_in_order: bool,
    /// A lease call that took longer than this may have returned less than it took, or less than there was, because its
    /// last step failed. Only if calls lease in several steps. Default: none.
    pub leases_whole_within: Duration,
    /// Whether a task takes its place among the pending ones at the moment at which it becomes pending. Otherwise the
    /// store may have chosen the place at any earlier moment of the call, so that tasks that different calls have made
    /// pending at the same time are leased in either order. Only if calls are not cut off. Default true.
    pub places_at_once: bool,
    /// Whether an extension, and an outcome [only for an ended
    /// lease](asynqueue_core::broker::Settlement::only_if_expired), wait for other calls that hold the lease. Otherwise,
    /// beside an edit, an extension or an outcome of the same task, such an outcome may be stale although the lease has
    /// ended, and an extension may have no effect: it is then reported as lost if the lease has ended. Default true.
    pub waits_for_holders: bool,
    /// Whether the tasks of a batch are refused at the moment at which the tasks before them are accepted. Otherwise any
    /// moment of the call, because it looks first and accepts later. Default true.
    pub refuses_in_order: bool,
    /// Whether an extension takes effect once. Otherwise a repeated request may also have taken effect before, and
    /// returns the last result. Default true.
    pub extends_once: bool,
}

impl Default for Promises {
    fn default() -> Self {
        Self {
            leases_at_once: true,
            leases_in_order: true,
            places_at_once: true,
            waits_for_holders: true,
            refuses_in_order: true,
            leases_whole_within: Duration::MAX,
            extends_once: true,
        }
    }
}

/// Recorded calls, ordered by their start.
#[derive(Clone, Debug)]
pub struct History {
    calls: Vec<Call>,
}

/// The size of a checked history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many calls there were.
    pub calls: usize,
    /// How many calls failed or were cut off, so that their outcome is unknown.
    pub unanswered: usize,
    /// How many steps the search tried.
    pub tries: usize,
}

/// The limit of steps to try for the history of a queue. A second is enough for some hundred thousand.
const TRIES: usize = 500_000;

impl History {
    /// A history of these calls.
    pub fn new(mut calls: Vec<Call>) -> Self {
        calls.sort_by_key(|call| call.begin);
        Self { calls }
    }

    /// The calls, ordered by their start.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// For each queue, searches for an order of its calls in which each takes effect at one moment between its start and
    /// its end, and each response is what the specification returns in that order. A call without a response takes
    /// effect at some moment after its start, however late, or never.
    ///
    /// Queues are checked separately: a call that spans several counts as one for each, because a store makes each
    /// change in one queue.
    ///
    /// # Errors
    ///
    /// When there is no order. The error then shows the contradictory responses in the shortest prefix of the history
    /// that has no order. Also when the search takes too long.
    ///
    /// # Panics
    ///
    /// When a call uses a queue other than `left` and `right`.
    pub fn judge(&self, promises: &Promises) -> Result<Summary, Violation> {
        let is_unanswered = |call: &&Call| call.answered().is_none();
        let mut summary = Summary {
            calls: self.calls.len(),
            unanswered: self.calls.iter().filter(is_unanswered).count(),
            tries: 0,
        };
        for queue in QUEUES {
            let queue = Name::from(queue);
            let judged = Judged {
                calls: &self.calls,
                queue: &queue,
                promises,
            };
            let (found, tries) = judged.search(&View::complete(), TRIES);
            summary.tries += tries;
            match found {
                Found::Order => {}
                Found::NoOrder => return Err(Violation::of(&judged)),
                Found::Undecided => return Err(Violation::undecided(&judged, tries)),
            }
        }
        Ok(summary)
    }
}

/// The history of a queue.
pub(super) struct Judged<'a> {
    pub(super) calls: &'a [Call],
    pub(super) queue: &'a Name,
    pub(super) promises: &'a Promises,
}

impl Judged<'_> {
    /// Searches for an order of the visible part.
    pub(super) fn search(&self, view: &View, tries: usize) -> (Found, usize) {
        let Steps { steps, spans } = Steps::of(self.calls, self.queue, self.promises, view);
        let spec = Spec::new(self.queue, self.promises, &steps, &spans);
        search(&spec, &spans, tries)
    }
}
