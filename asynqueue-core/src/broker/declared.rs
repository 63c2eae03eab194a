//! What programs declare, and how it is restored after a store has lost it.
//!
//! Once per second, a process that declares subscribers or schedule entries compares the [mark](StateMark) of the store
//! with the last one it saw. If they differ, it restores what is missing, unless it was removed on request.

use crate::ambient;
use std::time::Duration;

/// How long a store remembers what was removed on request, so that a process that declares it does not restore it.
/// After this time every running process has seen the removal and no longer declares it.
pub const REMOVALS_KEPT: Duration = Duration::from_secs(3600);

/// Identifies a state of the stored declarations. Every addition and removal generates a new mark that was never used
/// before. A store that has lost something, even only the last change, therefore shows another mark. 0, the default, if
/// nothing was stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StateMark(pub u64);

impl StateMark {
    /// A mark that was never used before.
    #[must_use]
    pub fn generate() -> Self {
        Self(ambient::random::<u64>().max(1))
    }
}

/// The result of restoring what a program declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored<T> {
    /// A state in which nothing declared was missing. The store may have changed since.
    pub mark: StateMark,
    /// What was missing and was added again.
    pub restored: Vec<T>,
    /// What is missing because it was removed on request within [`REMOVALS_KEPT`].
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
