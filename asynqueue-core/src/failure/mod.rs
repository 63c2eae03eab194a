//! Failures by cause: what failed attempts have in common.

mod cause;
mod fingerprint;
mod normal;
mod parts;
#[cfg(test)]
mod tests;

pub use self::{
    cause::{Cause, Ended, Failed, Failures},
    fingerprint::{Fingerprint, InvalidFingerprint},
    normal::normalized,
};
