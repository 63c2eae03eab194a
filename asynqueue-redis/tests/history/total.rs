//! What all histories of a run were like.

use std::fmt;

use asynqueue_conformance::history::{Answer, History, Request, Summary};

use super::stage::Stage;

/// Sums over histories.
#[derive(Debug, Default)]
pub(crate) struct Total {
    /// Those that have an order.
    pub(crate) histories: usize,
    /// Those that were not decided with all of their calls, and were recorded again with fewer.
    pub(crate) shortened: usize,
    /// Those that were not decided with the fewest calls either.
    pub(crate) undecided: usize,
    calls: usize,
    unanswered: usize,
    /// Leases that were answered by a request which was sent again, or by the next.
    leased_again: usize,
    /// Calls that settle again what went unanswered.
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

    /// Whether faults have struck, and left calls an answer.
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
        writeln!(f, "calls without an answer: {}", self.unanswered)?;
        writeln!(f, "leases answered again: {}", self.leased_again)?;
        writeln!(f, "outcomes settled again: {}", self.settled_again)?;
        writeln!(f, "answers cut: {}", self.cuts)?;
        writeln!(f, "requests delivered late: {}", self.late)?;
        let (tries, most) = (self.tries / self.histories.max(1), self.most_tries);
        write!(f, "steps tried for a history: {tries}, at most {most}")
    }
}
