//! Failures by cause: what failed attempts have in common.

mod cause;
mod fingerprint;
mod normal;
mod parts;
mod points;
mod tally;
#[cfg(test)]
mod tests;

pub(crate) use self::tally::Tally;
pub use self::{
    cause::{Cause, Ended, Failed, Failures},
    fingerprint::{Fingerprint, InvalidFingerprint},
    normal::normalized,
};
