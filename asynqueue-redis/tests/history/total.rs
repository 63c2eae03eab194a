//! Sums over all histories of a run.

use std::fmt;

use asynqueue_conformance::history::{Answer, History, Request, Summary};

use super::stage::Stage;

/// Sums over histories.
#[derive(Debug, Default)]
pub(crate) struct Total {
    /// Histories that have an order.
    pub(crate) histories: usize,
    /// Histories that were undecided with all of their calls, and recorded again with fewer.
    pub(crate) shortened: usize,
    /// Histories that were undecided even with the fewest calls.
    pub(crate) undecided: usize,
    calls: usize,
    unanswered: usize,
    /// Leases whose response came from a repeated request, or from the next one.
    leased_again: usize,
    /// Calls that settle unanswered outcomes again.
    settled_again: usize,
    tries: usize,
    most_tries: usize,
    cuts: u64,
    late: u64,
}

impl Total {
    pub(crate) fn add(&mut self, history: &History, summary: &Summary) {
        self.histories += 1;
        self.calls += summary.calls;
        self.unanswered += summary.unanswered;
        self.tries += summary.tries;
        self.most_tries = self.most_tries.max(summary.tries);
        let mut failed = Vec::new();
        for call in history.calls() {
            if let Some(Answer::Leased(queues)) = call.answered() {
                let mut leased = queues.iter().flatten().flatten();
                self.leased_again += usize::from(leased.any(|one| one.pending_since.is_none()));
            }
            if let Request::Settle(settlements) = &call.request {
                let envelope = &settlements[0].envelope;
                self.settled_again += usize::from(failed.contains(envelope));
                if call.answered().is_none() {
                    failed.push(envelope.clone());
                }
            }
        }
    }

    pub(crate) fn add_faults(&mut self, stage: &Stage) {
        self.cuts += stage.proxies.iter().map(|proxy| proxy.cuts()).sum::<u64>();
        self.late += stage.proxies.iter().map(|proxy| proxy.late()).sum::<u64>();
    }

    /// Whether faults have occurred, and some calls still got a response.
    pub(crate) fn has_faults(&self) -> bool {
        let has_struck = self.unanswered > 0 && self.cuts > 0 && self.late > 0;
        has_struck && self.unanswered < self.calls
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "histories: {}", self.histories)?;
        writeln!(f, "recorded again with fewer calls: {}", self.shortened)?;
        writeln!(f, "not decided: {}", self.undecided)?;
        writeln!(f, "calls: {}", self.calls)?;
        writeln!(f, "calls without a response: {}", self.unanswered)?;
        writeln!(f, "leases returned again: {}", self.leased_again)?;
        writeln!(f, "outcomes settled again: {}", self.settled_again)?;
        writeln!(f, "responses cut: {}", self.cuts)?;
        writeln!(f, "requests delivered late: {}", self.late)?;
        let (tries, most) = (self.tries / self.histories.max(1), self.most_tries);
        write!(f, "steps tried for a history: {tries}, at most {most}")
    }
}
