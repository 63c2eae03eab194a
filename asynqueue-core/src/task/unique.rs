//! Uniqueness: at most one task with a given key at a time.

use std::{fmt, hash::Hasher, time::Duration};

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher24};

use super::TaskId;
use crate::codec::{self, Codec, CodecError};

/// How a task type is kept unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unique {
    /// What releases the lock.
    pub until: UniqueUntil,
    /// The lock is released after this long in any case, so that a crash can't hold it for ever.
    pub ttl: Duration,
}

impl Unique {
    /// Unique until this, and for `ttl` at most.
    pub const fn new(until: UniqueUntil, ttl: Duration) -> Self {
        Self { until, ttl }
    }
}

/// What releases a unique lock before its time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum UniqueUntil {
    /// A worker starts the task. One that is given back or snoozed takes the lock again, unless another holds it by then. One
    /// that has failed does not.
    Start,
    /// The task comes to its end: completed, archived or deleted.
    Success,
    /// Nothing: at most one task per window.
    Window,
}

impl UniqueUntil {
    /// Its name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Success => "success",
            Self::Window => "window",
        }
    }
}

/// What makes two tasks the same.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UniqueKey(Box<str>);

impl UniqueKey {
    /// A key of the caller's own, such as a customer number.
    pub fn new(key: impl Into<Box<str>>) -> Self {
        Self(key.into())
    }

    /// The key of a value: equal values have equal keys, in every process and version. It is that of the value's [encoded
    /// bytes](Self::of_bytes), with the entries of maps and the elements of a `HashSet` or an `IndexSet` sorted, and negative
    /// zero as zero.
    ///
    /// A set behind a type of its own that is `#[serde(transparent)]` or written by `serialize_with` looks like a list to serde,
    /// and keeps the order it is in.
    ///
    /// # Errors
    ///
    /// When the value cannot be encoded.
    pub fn of_value<C: Codec>(
        event: &str,
        value: &(impl Serialize + ?Sized),
    ) -> Result<Self, CodecError> {
        let bytes = codec::encode_canonical::<C, _>(value)?;
        Ok(Self::of_bytes(event, &bytes))
    }

    /// The key of encoded bytes: SipHash-2-4 with 128 bits, so that the same payload gives the same key in every
    /// process and version.
    pub fn of_bytes(event: &str, bytes: &[u8]) -> Self {
        let mut hasher = SipHasher24::new();
        hasher.write(event.as_bytes());
        hasher.write_u8(0);
        hasher.write(bytes);
        Self(format!("{event}:{:032x}", hasher.finish128().as_u128()).into())
    }

    /// The key of one task alone: its id.
    pub(crate) fn of_task(id: &TaskId) -> Self {
        Self::new(id.as_str())
    }

    /// Whether it is made of a [value](Self::of_value) or of [bytes](Self::of_bytes), and not the caller's own.
    pub(crate) fn is_hash_of(&self, event: &str) -> bool {
        let hash = self
            .0
            .strip_prefix(event)
            .and_then(|rest| rest.strip_prefix(':'));
        hash.is_some_and(|hash| {
            hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UniqueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The lock that one task asks for and holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UniqueLock {
    /// What no other task may hold meanwhile.
    pub key: UniqueKey,
    /// What releases it.
    pub until: UniqueUntil,
    /// How long it is held at most.
    pub ttl: Duration,
}

impl UniqueLock {
    /// A lock on `key` until this, and for `ttl` at most.
    pub fn new(key: UniqueKey, until: UniqueUntil, ttl: Duration) -> Self {
        Self { key, until, ttl }
    }

    /// Whether it is for a window, and for the task `id` alone: its key is [the task's own](UniqueKey::of_task).
    pub(crate) fn is_of(&self, id: &TaskId) -> bool {
        self.until == UniqueUntil::Window && self.key.as_str() == id.as_str()
    }
}
