//! Reports of broker faults.

use std::fmt::{self, Write};

use asynqueue_core::broker::BrokerError;

use super::Operation;

/// A broker behaved differently than expected. Shows the operations that led to it, one per line.
///
/// Its `Debug` is its `Display`, so that `unwrap` and proptest print it readably too.
#[derive(Clone, PartialEq, Eq)]
pub struct Difference(String);

impl Difference {
    /// The fault was found after the last of the operations.
    pub(super) fn after(operations: &[Operation], fault: &Fault) -> Self {
        let mut text = String::new();
        for (index, operation) in operations.iter().enumerate() {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "{:4}. {operation}", index + 1);
        }
        let _ = write!(text, "{}", fault.0);
        Self(text)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}

impl std::error::Error for Difference {}

/// What is wrong, without the operations that led to it.
#[derive(Debug)]
pub(super) struct Fault(pub(super) String);

impl From<BrokerError> for Fault {
    fn from(error: BrokerError) -> Self {
        Self(format!("the broker failed: {error}"))
    }
}

/// Fails with the difference, unless the two are equal.
pub(super) fn same<T: PartialEq + fmt::Debug>(
    what: impl fmt::Display,
    found: &T,
    expected: &T,
) -> Result<(), Fault> {
    if found == expected {
        Ok(())
    } else {
        Err(Fault(format!(
            "{what}\n   found: {found:?}\nexpected: {expected:?}"
        )))
    }
}

/// Fails unless `holds`.
pub(super) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(Fault(what())) }
}
