//! Shows why a history has no order.

use std::fmt::{self, Write};

use asynqueue_core::broker::LeaseToken;

use super::{
    call::{Answer, Call, Request},
    judge::Judged,
    search::Found,
    show,
    steps::View,
};

/// A history has no order, or none was found in time. Shows one call per line.
///
/// Its `Debug` is its `Display`, so that `unwrap` prints it readably too.
#[derive(Clone, PartialEq, Eq)]
pub struct Violation {
    text: String,
    is_undecided: bool,
}

/// How many tries may be used to check whether a prefix has an order, and whether a response can be left out.
const BEGINNING_TRIES: usize = 20_000;
const ANSWER_TRIES: usize = 2_000;

impl Violation {
    /// Whether the search gave up, so that there may be an order.
    pub fn is_undecided(&self) -> bool {
        self.is_undecided
    }

    /// The violation of a history without an order.
    pub(super) fn of(judged: &Judged<'_>) -> Self {
        let view = without_needless(judged, shortest(judged));
        let of_queue = |(_, call): &(usize, &Call)| {
            call.begin <= view.until && show::is_about(call, judged.queue)
        };
        let calls: Vec<_> = judged.calls.iter().enumerate().filter(of_queue).collect();
        let is_needed = |place: usize, call: &Call| {
            call.answered().is_some()
                && call.end.is_some_and(|end| end <= view.until)
                && !view.forgotten.contains(&place)
        };
        let (needed, others): (Vec<_>, Vec<_>) =
            (calls.into_iter()).partition(|(place, call)| is_needed(*place, call));
        let mut text = format!(
            "queue `{}`: no order of the calls explains these {} responses, regardless of the others:\n",
            judged.queue,
            needed.len()
        );
        let line = |(_, call): &(usize, &Call)| show::line(call, judged.queue, view.until);
        for call in &needed {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "  {}", line(call));
        }
        if !others.is_empty() {
            let _ = writeln!(text, "the {} others until then:", others.len());
            for call in &others {
                let _ = writeln!(text, "  {}", line(call));
            }
        }
        Self {
            text,
            is_undecided: false,
        }
    }

    /// The violation of a history that took too many tries.
    pub(super) fn undecided(judged: &Judged<'_>, tries: usize) -> Self {
        let mut text = format!(
            "queue `{}`: no order of the calls was found in {tries} tries; use fewer clients, calls or faults:\n",
            judged.queue
        );
        let about = |call: &&Call| show::is_about(call, judged.queue);
        for call in judged.calls.iter().filter(about) {
            let _ = writeln!(text, "  {}", show::line(call, judged.queue, u64::MAX));
        }
        Self {
            text,
            is_undecided: true,
        }
    }
}

/// The shortest prefix without an order. If a prefix has no order, no longer one has.
fn shortest(judged: &Judged<'_>) -> View {
    let mut ends: Vec<_> = judged.calls.iter().filter_map(|call| call.end).collect();
    ends.sort_unstable();
    let has_order = |end: &u64| {
        let view = View {
            until: *end,
            ..View::complete()
        };
        // An undecided prefix counts as having an order.
        judged.search(&view, BEGINNING_TRIES).0 != Found::NoOrder
    };
    let first = ends.partition_point(has_order);
    View {
        until: ends.get(first).copied().unwrap_or(u64::MAX),
        ..View::complete()
    }
}

/// Removes one response after the other, as long as there is still no order. Responses to leases last, because they
/// show the most.
fn without_needless(judged: &Judged<'_>, mut view: View) -> View {
    let is_lease = |place: &usize| matches!(judged.calls[*place].request, Request::Lease { .. });
    let mut places: Vec<_> = (0..judged.calls.len()).rev().collect();
    places.sort_by_key(is_lease);
    for place in places {
        let call = &judged.calls[place];
        let is_seen = call.end.is_some_and(|end| end <= view.until);
        if !is_seen || call.answered().is_none() || !show::is_about(call, judged.queue) {
            continue;
        }
        if is_used(call, judged.calls) {
            continue;
        }
        view.forgotten.insert(place);
        if judged.search(&view, ANSWER_TRIES).0 != Found::NoOrder {
            view.forgotten.remove(&place);
        }
    }
    view
}

/// Whether other calls use what a call has leased: then its response is the source of their tokens.
fn is_used(call: &Call, calls: &[Call]) -> bool {
    let Some(Answer::Leased(queues)) = call.answered() else {
        return false;
    };
    let uses = |token: LeaseToken| {
        calls.iter().any(|call| match &call.request {
            Request::Extend(leases, _) => leases.iter().any(|lease| lease.token == token),
            Request::Settle(settlements) => settlements.iter().any(|one| one.token == token),
            _ => false,
        })
    };
    let leased = queues.iter().flatten().flatten();
    leased.map(|leased| leased.token).any(uses)
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}

impl std::error::Error for Violation {}
