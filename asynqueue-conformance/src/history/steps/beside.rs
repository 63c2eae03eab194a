//! Calls that may run at the same time as another, and what they lock in a store that locks single tasks.

use asynqueue_core::task::{Name, TaskRef};

use crate::history::call::{Call, Request};

/// Whether other calls that hold pending tasks of a queue may run at the same time as this one.
pub(super) fn may_hold_pending(calls: &[Call], place: usize, queue: &Name) -> bool {
    is_beside(calls, place, |request| match request {
        Request::Lease { queues, .. } => queues.iter().any(|(name, _)| name == queue),
        Request::Edit(edits) => edits.iter().any(|edit| edit.seen.envelope.queue == *queue),
        _ => false,
    })
}

/// Whether other calls that hold the lease of a task may run at the same time as this one.
pub(super) fn may_hold_lease(calls: &[Call], place: usize, task: &TaskRef) -> bool {
    is_beside(calls, place, |request| match request {
        Request::Edit(edits) => edits.iter().any(|edit| edit.task_ref() == *task),
        Request::Extend(leases, _) => leases.iter().any(|lease| lease.task == *task),
        Request::Settle(settlements) => {
            (settlements.iter()).any(|one| one.envelope.task_ref() == *task)
        }
        _ => false,
    })
}

fn is_beside(calls: &[Call], place: usize, holds: impl Fn(&Request) -> bool) -> bool {
    // One without a response may still run.
    let end = |call: &Call| {
        let end = call.answered().and(call.end);
        end.unwrap_or(u64::MAX)
    };
    let this = &calls[place];
    let mut others = calls
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != place);
    others.any(|(_, call)| holds(&call.request) && call.begin < end(this) && this.begin < end(call))
}
