//! Leases that handlers of this process have completed in transactions of their own, until their servers report the
//! outcome. A handler may forget to commit: the task must not be completed without its writes.

use std::{collections::HashSet, sync::Arc};

use crate::{
    broker::{Lease, Outcome, Settlement},
    sync::Mutex,
    task::{Failure, FailureKind, Timestamp},
};

static PROMISED: Mutex<Option<HashSet<Lease>>> = Mutex::new(None);

/// Notes that a lease was completed in a transaction.
pub fn add(lease: Lease) {
    PROMISED.lock().get_or_insert_default().insert(lease);
}

/// Whether a lease was completed in a transaction, which may not have been committed.
pub fn has(settlement: &Settlement) -> bool {
    let promised = PROMISED.lock();
    // Usually there are none.
    let promised = promised.as_ref().filter(|promised| !promised.is_empty());
    promised.is_some_and(|promised| promised.contains(&lease(settlement)))
}

/// Forgets a lease whose outcome is recorded.
pub fn forget(settlement: &Settlement) {
    if let Some(promised) = PROMISED.lock().as_mut() {
        promised.remove(&lease(settlement));
    }
}

fn lease(settlement: &Settlement) -> Lease {
    Lease {
        task: settlement.envelope.task_ref(),
        token: settlement.token,
    }
}

/// The failure of an attempt whose handler returned without an error, but did not commit its transaction.
pub fn not_committed(settlement: &Settlement, now: Timestamp) -> Settlement {
    const PROBLEM: &str = "the handler called `complete_in` and returned `Ok`, but did not commit the transaction: \
         commit before the handler returns";
    let mut task = (*settlement.leased).clone();
    task.attempts = task.attempts.saturating_add(1);
    task.push_failure(Failure::new(
        task.attempts,
        now,
        FailureKind::Error,
        PROBLEM,
    ));
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
