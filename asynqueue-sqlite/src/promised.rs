//! Leases that handlers of this process have completed in transactions of their own, until their servers report the
//! outcome. A handler may forget to commit: the task must not be completed without its writes.

use std::{collections::HashSet, path::Path};

use asynqueue_core::broker::LeaseToken;
use parking_lot::{Mutex, const_mutex};

use crate::link::Identity;

/// By file and lease.
static PROMISED: Mutex<Option<HashSet<(Identity, LeaseToken)>>> = const_mutex(None);

/// Notes that a lease was completed in a transaction on this file.
pub(crate) fn add(file: &str, token: LeaseToken) {
    if let Some(identity) = Identity::of(Path::new(file)) {
        PROMISED
            .lock()
            .get_or_insert_default()
            .insert((identity, token));
    }
}

/// Whether a lease was completed in a transaction on this file.
pub(crate) fn has(file: Option<&Path>, token: LeaseToken) -> bool {
    let promised = PROMISED.lock();
    // Usually there are none, and the file need not be looked at.
    let Some(promised) = promised.as_ref().filter(|promised| !promised.is_empty()) else {
        return false;
    };
    let identity = file.and_then(Identity::of);
    identity.is_some_and(|identity| promised.contains(&(identity, token)))
}

/// Forgets a lease whose outcome is recorded.
pub(crate) fn forget(file: Option<&Path>, token: LeaseToken) {
    if let (Some(promised), Some(identity)) =
        (PROMISED.lock().as_mut(), file.and_then(Identity::of))
    {
        promised.remove(&(identity, token));
    }
}
