//! Removals that are remembered for a while, and the mark of a state.

use std::collections::BTreeMap;

use crate::{
    broker::{REMOVALS_KEPT, StateMark},
    task::Timestamp,
};

/// What was removed on demand, and the mark of what is left.
#[derive(Debug)]
pub(super) struct Removals<K> {
    pub(super) mark: StateMark,
    removed: BTreeMap<K, Timestamp>,
}

impl<K: Ord> Default for Removals<K> {
    fn default() -> Self {
        Self {
            mark: StateMark::generate(),
            removed: BTreeMap::new(),
        }
    }
}

impl<K: Ord> Removals<K> {
    /// Notes that something was added on demand.
    pub(super) fn added(&mut self, key: &K) {
        self.removed.remove(key);
        self.mark = StateMark::generate();
    }

    /// Notes that something was removed on demand, or was to be.
    pub(super) fn removed(&mut self, key: K, now: Timestamp) {
        self.forget_old(now);
        self.removed.insert(key, now);
        self.mark = StateMark::generate();
    }

    /// Whether something was removed on demand not long ago.
    pub(super) fn has(&mut self, key: &K, now: Timestamp) -> bool {
        self.forget_old(now);
        self.removed.contains_key(key)
    }

    fn forget_old(&mut self, now: Timestamp) {
        self.removed.retain(|_, at| now < *at + REMOVALS_KEPT);
    }
}
