//! Decides whether there is an order of the calls of a history in which each of them is answered as it was.

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

/// What a store promises of its calls beyond the traits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promises {
    /// Whether a call leases all that it takes from a queue in one step. Else tasks under one token are taken in one step, and a
    /// call may consist of several. Default true.
    pub leases_at_once: bool,
    /// A call for leases that took longer may have been answered with less than it took, or than there was: its last step failed.
    /// Only where they are not leased at once. Default: none.
    pub leases_whole_within: Duration,
    /// Whether an extension has its effect once. Else, where its request is sent again, it may have it before as well, and is answered
    /// the last time. Default true.
    pub extends_once: bool,
}

impl Default for Promises {
    fn default() -> Self {
        Self {
            leases_at_once: true,
            leases_whole_within: Duration::MAX,
            extends_once: true,
        }
    }
}

/// Calls that were recorded, by their begin.
#[derive(Clone, Debug)]
pub struct History {
    calls: Vec<Call>,
}

/// What was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many calls there were.
    pub calls: usize,
    /// How many of them failed or were cut off, so that their outcome is unknown.
    pub unanswered: usize,
    /// How many steps the search tried.
    pub tries: usize,
}

/// How many steps may be tried for the history of a queue. It takes some hundred thousand in a second.
const TRIES: usize = 500_000;

impl History {
    /// A history of these calls.
    pub fn new(mut calls: Vec<Call>) -> Self {
        calls.sort_by_key(|call| call.begin);
        Self { calls }
    }

    /// The calls, by their begin.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// Searches, for each queue, an order of the calls in which each has its effect at one moment between its begin and its end, and
    /// each is answered as the specification does in that order. A call without an answer has its effect at some moment after its
    /// begin, however late, or never.
    ///
    /// Queues are judged by themselves: a call that spans several is one of each, since a store makes each change in one queue.
    ///
    /// # Errors
    ///
    /// When there is no order: then the answers that contradict each other, in the shortest beginning of the history that has none.
    /// When the search takes too long.
    ///
    /// # Panics
    ///
    /// When a call is about another queue than `left` and `right`.
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
            let (found, tries) = judged.search(&View::whole(), TRIES);
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
    /// Searches an order of what is looked at.
    pub(super) fn search(&self, view: &View, tries: usize) -> (Found, usize) {
        let Steps { steps, spans } = Steps::of(self.calls, self.queue, self.promises, view);
        let spec = Spec::new(self.queue, &steps, &spans);
        search(&spec, &spans, tries)
    }
}
