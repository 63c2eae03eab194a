//! The fingerprint of a failure.

use std::{fmt, str::FromStr};

use super::normalized;
use crate::task::{Envelope, Failure, FailureKind};

/// The first byte of what is hashed. A change of the rules changes it, so that old and new fingerprints never mix.
const VERSION: u8 = 1;

/// Identifies the cause of a failure. Two failures have the same fingerprint if they have the same event, the same
/// kind and the same [normalized](normalized) message.
///
/// As text, it has 16 hexadecimal digits. It is the same in every process and on every platform.
///
/// ```
/// use asynqueue_core::{failure::Fingerprint, task::FailureKind};
///
/// let of = |message| Fingerprint::of("card:charge", FailureKind::Error, message);
/// assert_eq!(of("400: no such card (request req_8fA2)"), of("400: no such card (request req_91c)"));
/// assert_ne!(of("card_declined: insufficient_funds"), of("card_declined: expired_card"));
/// # let text = of("no").to_string();
/// # assert_eq!(text.parse(), Ok(of("no")));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of a failure of an event.
    pub fn of(event: &str, kind: FailureKind, message: &str) -> Self {
        Self::of_normalized(event, kind, &normalized(message))
    }

    /// The fingerprint of a failure whose message is [normalized](normalized) already.
    pub fn of_normalized(event: &str, kind: FailureKind, message: &str) -> Self {
        let mut hash = Fnv::default();
        hash.write(&[VERSION]);
        hash.write(event.as_bytes());
        // No event and no kind contains it.
        hash.write(&[0]);
        hash.write(kind.as_str().as_bytes());
        hash.write(&[0]);
        hash.write(message.as_bytes());
        Self(hash.finish())
    }

    /// The fingerprint of the last failure of a task. `None` if it has not failed.
    pub fn of_task(task: &Envelope) -> Option<Self> {
        let Failure { kind, message, .. } = task.last_failure()?;
        Some(Self::of(&task.event, *kind, message))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:016x}", self.0))
    }
}

/// The error for text that is not a fingerprint.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid fingerprint `{0}`: expected 16 hexadecimal digits")]
pub struct InvalidFingerprint(String);

crate::debug_as_text!(InvalidFingerprint);

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| is_hex);
        number
            .map(Self)
            .ok_or_else(|| InvalidFingerprint(text.to_owned()))
    }
}

/// FNV-1a with 64 bits. The hasher of the standard library may change with its version.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    /// Mixes all bits, because the last byte changes few of them.
    fn finish(&self) -> u64 {
        let mut mixed = self.0;
        for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
            mixed = (mixed ^ (mixed >> 33)).wrapping_mul(factor);
        }
        mixed ^ (mixed >> 33)
    }
}
