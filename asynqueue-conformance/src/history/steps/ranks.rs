//! The order in which steps are tried.
//!
//! Two tasks that became pending concurrently are leased in one order, but much later. A search that guesses the other
//! order finds out only then, and has much to undo. So it looks ahead.

use std::collections::HashMap;

use asynqueue_core::{
    broker::{Change, Move, Outcome, When},
    task::Envelope,
};

use super::{Kind, SettleStep, Step, Steps};
use crate::history::version::Version;

/// Ranks the steps that add tasks at the end of the queue, by when those are leased.
pub(super) fn rank(steps: &mut Steps) {
    let Steps { steps, spans } = steps;
    let mut leased: HashMap<Version, u64> = HashMap::new();
    for (step, span) in steps.iter().zip(spans.iter()) {
        if let Kind::Lease(lease) = &step.kind {
            let end = span.end.unwrap_or(u64::MAX >> 8);
            for (place, task) in lease.tasks.iter().enumerate() {
                // Within one call, one after the other.
                let rank = (end << 8) + place as u64;
                let version = Version::pending(&task.envelope);
                leased.entry(version).or_insert(rank);
            }
        }
    }
    for (step, span) in steps.iter().zip(spans) {
        let pended = pended(step).map(Version::pending);
        span.rank = pended.and_then(|version| leased.get(&version).copied());
    }
}

/// The task that a step adds at the end of the queue.
pub(in crate::history) fn pended(step: &Step) -> Option<&Envelope> {
    match &step.kind {
        Kind::Enqueue(task, None | Some(Ok(()))) if task.when == When::Now => Some(&task.envelope),
        Kind::Settle(SettleStep { settlement, .. }) => match settlement.outcome {
            Outcome::Retry { delay } | Outcome::Snooze { delay } if delay.is_zero() => {
                Some(&settlement.envelope)
            }
            _ => None,
        },
        Kind::Edit(edit, _) => match &edit.change {
            Change::Put {
                envelope,
                to: Some(Move::Pending),
            } => Some(envelope),
            _ => None,
        },
        _ => None,
    }
}
