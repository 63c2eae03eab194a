//! Uniqueness: at most one task with a given key at a time.

use std::{fmt, hash::Hasher, time::Duration};

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher24};

use super::TaskId;
use crate::codec::{self, Codec, CodecError};

/// How tasks of a type are kept unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unique {
    /// What releases the lock.
    pub until: UniqueUntil,
    /// The maximum time that the lock is held, so that a crash cannot hold it forever.
    pub ttl: Duration,
}

impl Unique {
    /// Unique until `until`, for at most `ttl`.
    pub const fn new(until: UniqueUntil, ttl: Duration) -> Self {
        Self { until, ttl }
    }
}

/// What releases a unique lock before its ttl ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum UniqueUntil {
    /// A worker starts the task. A released or snoozed task takes the lock again unless another task holds it. A
    /// failed task does not.
    Start,
    /// The task finishes: it is completed, archived or deleted.
    Success,
    /// Nothing: at most one task per time window.
    Window,
}

impl UniqueUntil {
    /// The name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Success => "success",
            Self::Window => "window",
        }
    }
}

/// The key of a unique lock. Tasks with the same key are duplicates.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UniqueKey(Box<str>);

impl UniqueKey {
    /// A custom key, such as a customer number.
    pub fn new(key: impl Into<Box<str>>) -> Self {
        Self(key.into())
    }

    /// The key of a value. Equal values have equal keys, in every process and version. It is the key of the value's
    /// [encoded bytes](Self::of_bytes), with the entries of maps and the elements of a `HashSet` or an `IndexSet`
    /// sorted, and negative zero as zero.
    ///
    /// To serde, a set in a wrapper type with `#[serde(transparent)]` or `serialize_with` looks like a list; its
    /// elements keep their order.
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

    /// The key of encoded bytes: their SipHash-2-4 with 128 bits, so that the same payload has the same key in
    /// every process and version.
    pub fn of_bytes(event: &str, bytes: &[u8]) -> Self {
        let mut hasher = SipHasher24::new();
        hasher.write(event.as_bytes());
        hasher.write_u8(0);
        hasher.write(bytes);
        Self(format!("{event}:{:032x}", hasher.finish128().as_u128()).into())
    }

    /// The key of one specific task: its id.
    pub(crate) fn of_task(id: &TaskId) -> Self {
        Self::new(id.as_str())
    }

    /// Whether it is the hash of a [value](Self::of_value) or of [bytes](Self::of_bytes), not a custom key.
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

/// The unique lock of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UniqueLock {
    /// The key that no other task may hold at the same time.
    pub key: UniqueKey,
    /// What releases the lock.
    pub until: UniqueUntil,
    /// The maximum time that it is held.
    pub ttl: Duration,
}

impl UniqueLock {
    /// A lock on `key` until `until`, for at most `ttl`.
    pub fn new(key: UniqueKey, until: UniqueUntil, ttl: Duration) -> Self {
        Self { key, until, ttl }
    }

    /// Whether it is a window lock of task `id` alone, with the [key of that task](UniqueKey::of_task).
    pub(crate) fn is_of(&self, id: &TaskId) -> bool {
        self.until == UniqueUntil::Window && self.key.as_str() == id.as_str()
    }
}
