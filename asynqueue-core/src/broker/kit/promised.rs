//! Leases that handlers of this process have completed in transactions of their own, until their servers report the
//! outcome. A handler may forget to commit: the task must not be completed without its writes.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use crate::{
    broker::{Each, Lease, Outcome, Settled, Settlement},
    sync::Mutex,
    task::{Failure, FailureKind, Timestamp},
};

static PROMISED: Mutex<Option<HashSet<Lease>>> = Mutex::new(None);

const PROBLEM: &str = "the handler called `complete_in` and returned `Ok`, but did not commit the transaction: \
     commit before the handler returns";

/// Notes that a lease was completed in a transaction, which may not be committed.
pub fn add(lease: Lease) {
    PROMISED.lock().get_or_insert_default().insert(lease);
}

/// The outcomes to record. A lease that was completed in a transaction has failed if it is still current. If the
/// transaction was committed, its outcome is recorded already, and a later one has no effect.
pub fn outcomes(settlements: &[Settlement], now: Timestamp) -> Cow<'_, [Settlement]> {
    let promised = PROMISED.lock();
    // Usually there are none.
    let Some(promised) = promised.as_ref().filter(|promised| !promised.is_empty()) else {
        return Cow::Borrowed(settlements);
    };
    let outcome = |one: &Settlement| {
        let is_complete = matches!(one.outcome, Outcome::Complete { .. });
        match is_complete && promised.contains(&lease(one)) {
            true => not_committed(one, now),
            false => one.clone(),
        }
    };
    settlements.iter().map(outcome).collect()
}

/// Forgets leases whose outcomes are known, and notes those of which the transaction was not committed.
pub fn forget(settlements: &[Settlement], settled: &mut Each<Settled>) {
    let mut promised = PROMISED.lock();
    let Some(promised) = promised.as_mut().filter(|promised| !promised.is_empty()) else {
        return;
    };
    for (settlement, result) in settlements.iter().zip(settled) {
        let Ok(result) = result else { continue };
        let is_complete = matches!(settlement.outcome, Outcome::Complete { .. });
        if promised.remove(&lease(settlement)) && is_complete && *result == Settled::Recorded {
            tracing::warn!(task = %settlement.envelope.task_ref(), "{PROBLEM}");
            *result = Settled::NotCommitted;
        }
    }
}

fn lease(settlement: &Settlement) -> Lease {
    Lease {
        task: settlement.envelope.task_ref(),
        token: settlement.token,
    }
}

/// The outcome of an attempt whose handler returned without an error, but did not commit its transaction.
pub(crate) fn not_committed(settlement: &Settlement, now: Timestamp) -> Settlement {
    let mut task = (*settlement.leased).clone();
    task.attempts = task.attempts.saturating_add(1);
    let failure = Failure::new(task.attempts, now, FailureKind::Error, PROBLEM);
    task.push_failure(failure);
    let outcome = match task.may_retry() {
        true => Outcome::Retry {
            delay: task.options.backoff.delay(task.attempts, 0.5),
        },
        false => Outcome::Archive,
    };
    Settlement {
        envelope: Arc::new(task),
        outcome,
        ..settlement.clone()
    }
}
