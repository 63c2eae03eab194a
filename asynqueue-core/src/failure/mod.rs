//! Failures by cause: what failed attempts have in common.

mod fingerprint;
mod normal;
mod parts;
#[cfg(test)]
mod tests;

pub use self::{
    fingerprint::{Fingerprint, InvalidFingerprint},
    normal::normalized,
};
