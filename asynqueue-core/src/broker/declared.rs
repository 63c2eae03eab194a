//! What programs declare, and its way back after a store has lost it.
//!
//! A process that declares subscribers or schedule entries compares the [mark](StateMark) of the store with that which it has seen, each
//! second. Where it differs, it restores what is missing, unless it was removed on demand.

use crate::ambient;
use std::time::Duration;

/// How long a store remembers what was removed on demand, so that a process that declares it does not restore it. By then
/// each process that was at work has seen it, and does not declare it any more.
pub const REMOVALS_KEPT: Duration = Duration::from_secs(3600);

/// Names a state of what a store keeps of declarations: it becomes one that was never before whenever something is added or
/// removed. So a store that has lost something, even the last change alone, shows another mark. 0, the default, if nothing was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StateMark(pub u64);

impl StateMark {
    /// A mark that was never before.
    #[must_use]
    pub fn generate() -> Self {
        Self(ambient::random::<u64>().max(1))
    }
}

/// What was found of that which a program declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored<T> {
    /// A state in which nothing of it was missing. The store may have changed since.
    pub mark: StateMark,
    /// What was missing, and is there again.
    pub restored: Vec<T>,
    /// What is not there since it was removed on demand, within [`REMOVALS_KEPT`].
    pub removed: Vec<T>,
}

impl<T> Default for Restored<T> {
    fn default() -> Self {
        Self {
            mark: StateMark::default(),
            restored: Vec::new(),
            removed: Vec::new(),
        }
    }
}
