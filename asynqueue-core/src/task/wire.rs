//! The encoding of envelopes, specified for other languages in `docs/src/protocol.md`.
//!
//! One MessagePack map with short keys. Fields with their default value are left out. The id and the queue are not part
//! of it: they are part of the place where the bytes are stored.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use rmp_serde::decode::Error as DecodeError;
use rmpv::Value;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};

use super::{
    Aggregate, Backoff, Envelope, Headers, MAX_PRIORITY, Name, TaskId, TaskOptions, UniqueKey,
    UniqueLock, UniqueUntil, time::whole_millis,
};
use crate::codec::{CodecName, MessagePack};

/// The version that is written. Higher versions are refused on reading.
pub(super) const VERSION: u64 = 1;

impl Envelope {
    /// Encodes the envelope without its id and queue.
    pub fn to_bytes(&self) -> Vec<u8> {
        let options = &*self.options;
        let defaults = &*TaskOptions::shared_default();
        let mut map = MapWriter::with_capacity(self.payload.len() + 64);
        map.entry("v", VERSION);
        map.entry("e", &self.event);
        map.entry("p", Blob(&self.payload));
        // Saves 11 of about 100 bytes: almost every id contains this time.
        let is_in_id = self.id.time() == Some(self.enqueued_at);
        map.entry_if(!is_in_id, "t", self.enqueued_at);
        map.entry_if(
            self.codec != CodecName::of::<MessagePack>(),
            "c",
            self.codec.as_str(),
        );
        map.entry_if(!self.headers.is_empty(), "h", Pairs(&self.headers));
        map.entry_if(self.deadline.is_some(), "d", self.deadline);
        map.entry_if(self.attempts > 0, "n", self.attempts);
        map.entry_if(!self.failures().is_empty(), "f", self.failures());
        if let Some(lock) = &self.unique {
            map.entry("u", (&lock.key, lock.until, whole_millis(lock.ttl)));
        }
        map.entry_if(
            options.max_retry != defaults.max_retry,
            "r",
            options.max_retry,
        );
        let (timeout, retention) = (options.timeout, options.retention);
        map.entry_if(timeout != defaults.timeout, "o", whole_millis(timeout));
        map.entry_if(
            retention != defaults.retention,
            "k",
            whole_millis(retention),
        );
        map.entry_if(options.priority != defaults.priority, "y", options.priority);
        map.entry_if(options.group.is_some(), "g", &options.group);
        if let Some(limits) = &options.aggregate {
            let (grace, max_delay) = (whole_millis(limits.grace), whole_millis(limits.max_delay));
            map.entry("a", (grace, max_delay, limits.max_size));
        }
        map.entry_if(self.expires_at().is_some(), "l", self.expires_at());
        map.entry_if(self.is_started(), "i", true);
        map.entry_if(self.completed().is_some(), "z", self.completed());
        map.entry_if(
            self.unhandled_since().is_some(),
            "w",
            self.unhandled_since(),
        );
        map.entry_if(self.place().is_some(), "q", self.place());
        map.entry_if(self.origin().is_some(), "m", self.origin());
        match options.backoff {
            Backoff::Standard => {}
            Backoff::Fixed(delay) => map.entry("b", ("fixed", whole_millis(delay))),
            Backoff::Exponential { base, max } => {
                map.entry("b", ("exponential", whole_millis(base), whole_millis(max)));
            }
        }
        for (key, value) in self.unknown() {
            map.entry(key, value);
        }
        map.finish()
    }

    /// Decodes the envelope stored for task `id` of `queue`.
    ///
    /// # Errors
    ///
    /// When the bytes are not an envelope, or of a later, incompatible version.
    pub fn from_bytes(queue: Name, id: TaskId, bytes: &[u8]) -> Result<Self, WireError> {
        decode_all("task envelope", bytes, |reader| {
            Reader { queue, id }.deserialize(reader)
        })
    }
}

/// A reader of bytes in memory.
pub(super) type Bytewise<'de> =
    rmp_serde::Deserializer<rmp_serde::decode::ReadRefReader<'de, [u8]>>;

/// Decodes bytes and checks that nothing follows.
pub(super) fn decode_all<'de, T>(
    what: &'static str,
    bytes: &'de [u8],
    read: impl FnOnce(&mut Bytewise<'de>) -> Result<T, DecodeError>,
) -> Result<T, WireError> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    let error = |source| WireError { what, source };
    let value = read(&mut reader).map_err(error)?;
    match IgnoredAny::deserialize(&mut reader) {
        // No bytes are left.
        Err(DecodeError::InvalidMarkerRead(_)) => Ok(value),
        _ => Err(error(de::Error::custom("unexpected bytes after the map"))),
    }
}

/// The error for bytes that are not an envelope, or not the changes of one.
#[derive(thiserror::Error)]
#[error("invalid {what}: {source}")]
pub struct WireError {
    what: &'static str,
    source: DecodeError,
}

crate::debug_as_text!(WireError);

/// Writes a map whose length, which comes first in MessagePack, is known only at the end.
struct MapWriter {
    bytes: Vec<u8>,
    len: u32,
}

impl MapWriter {
    fn with_capacity(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        // Reserves the length, which is one byte for almost all envelopes.
        bytes.push(0);
        Self { bytes, len: 0 }
    }

    fn entry(&mut self, key: &str, value: impl Serialize) {
        let mut serializer = rmp_serde::Serializer::new(&mut self.bytes).with_struct_map();
        let written =
            (key.serialize(&mut serializer)).and_then(|()| value.serialize(&mut serializer));
        // Encoding plain data into memory cannot fail.
        debug_assert!(written.is_ok(), "{key}: {written:?}");
        self.len += 1;
    }

    fn entry_if(&mut self, is_set: bool, key: &str, value: impl Serialize) {
        if is_set {
            self.entry(key, value);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        match self.len {
            // MessagePack's fixmap, map 16 and map 32.
            0..=0xf => self.bytes[0] = 0x80 | self.len as u8,
            0x10..=0xffff => self.lead(0xde, &(self.len as u16).to_be_bytes()),
            _ => self.lead(0xdf, &self.len.to_be_bytes()),
        }
        self.bytes
    }

    /// Replaces the length with a longer form.
    fn lead(&mut self, marker: u8, len: &[u8]) {
        self.bytes.splice(..1, [&[marker], len].concat());
    }
}

struct Blob<'a>(&'a [u8]);

impl Serialize for Blob<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct Pairs<'a>(&'a Headers);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter())
    }
}

/// Decodes the map of a task.
struct Reader {
    queue: Name,
    id: TaskId,
}

impl<'de> DeserializeSeed<'de> for Reader {
    type Value = Envelope;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Envelope, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = Envelope;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of task fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
        let codec = CodecName::of::<MessagePack>();
        let mut task = Envelope::new(self.id, Name::from_static(""), codec, Bytes::new());
        let mut options = TaskOptions {
            queue: self.queue.clone(),
            ..TaskOptions::default()
        };
        task.queue = self.queue;
        task.enqueued_at = task.id.time().unwrap_or_default();
        let (mut version, mut payload) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "v" => version = Some(supported(map.next_value()?)?),
                "e" => task.event = map.next_value()?,
                "p" => payload = Some(map.next_value::<BlobBuf>()?.0),
                "t" => task.enqueued_at = map.next_value()?,
                "c" => task.codec = CodecName::from_wire(&map.next_value::<String>()?),
                "h" => {
                    task.headers = map
                        .next_value::<std::collections::BTreeMap<String, String>>()?
                        .into_iter()
                        .collect()
                }
                "d" => task.deadline = map.next_value()?,
                "n" => task.attempts = map.next_value()?,
                "f" => task.set_failures(map.next_value()?),
                "u" => match lock(map.next_value()?)? {
                    Known::Yes(lock) => task.unique = Some(Box::new(lock)),
                    Known::Later(value) => task.push_unknown(key, value),
                },
                "r" => options.max_retry = map.next_value()?,
                "o" => options.timeout = at_least_1ms("timeout `o`", map.next_value()?)?,
                "k" => options.retention = Duration::from_millis(map.next_value()?),
                "y" => options.priority = priority(map.next_value()?)?,
                "g" => options.group = map.next_value()?,
                "a" => options.aggregate = Some(aggregate(map.next_value()?)?),
                "l" => task.set_expires_at(map.next_value()?),
                "i" => {
                    if map.next_value()? {
                        task.set_started();
                    }
                }
                "w" => task.set_unhandled_since(map.next_value()?),
                "q" => task.set_place(map.next_value()?),
                "m" => task.set_origin(map.next_value()?),
                "z" => {
                    if let Some(run) = map.next_value()? {
                        task.set_completed(run);
                    }
                }
                "b" => match backoff(map.next_value()?)? {
                    Known::Yes(backoff) => options.backoff = backoff,
                    Known::Later(value) => task.push_unknown(key, value),
                },
                _ => {
                    let value = map.next_value()?;
                    task.push_unknown(key, value);
                }
            }
        }
        version.ok_or_else(|| de::Error::missing_field("v"))?;
        task.payload = payload.ok_or_else(|| de::Error::missing_field("p"))?;
        if task.event.is_empty() {
            return Err(de::Error::missing_field("e"));
        }
        task.options = Arc::new(options);
        Ok(task)
    }
}

pub(super) fn supported<E: de::Error>(version: u64) -> Result<u64, E> {
    if (1..=VERSION).contains(&version) {
        Ok(version)
    } else {
        Err(E::custom(format_args!(
            "unsupported version {version}: expected at most {VERSION}"
        )))
    }
}

fn priority<E: de::Error>(priority: u8) -> Result<u8, E> {
    if priority <= MAX_PRIORITY {
        Ok(priority)
    } else {
        let problem = format_args!("priority `y` is {priority}: expected 0 to {MAX_PRIORITY}");
        Err(E::custom(problem))
    }
}

fn at_least_1ms<E: de::Error>(what: &str, millis: u64) -> Result<Duration, E> {
    if millis > 0 {
        Ok(Duration::from_millis(millis))
    } else {
        Err(E::custom(format_args!(
            "{what} is 0: expected at least 1 millisecond"
        )))
    }
}

fn aggregate<E: de::Error>(limits: (u64, u64, usize)) -> Result<Aggregate, E> {
    let (grace, max_delay, max_size) = limits;
    let limits = Aggregate {
        grace: Duration::from_millis(grace),
        max_delay: Duration::from_millis(max_delay),
        max_size,
    };
    limits.check().map_err(E::custom)?;
    Ok(limits)
}

/// A value whose meaning depends on a keyword in it.
enum Known<T> {
    Yes(T),
    /// The keyword is from a later version. The task runs as if the value were missing; the value is kept for
    /// servers of that version.
    Later(Value),
}

fn lock<E: de::Error>(value: Value) -> Result<Known<UniqueLock>, E> {
    let expected = || {
        E::custom(
            "invalid lock `u`: expected a key, `start`, `success` or `window`, and milliseconds",
        )
    };
    let [key, until, rest @ ..] = value.as_array().map_or(&[][..], Vec::as_slice) else {
        return Err(expected());
    };
    let until = match until.as_str().ok_or_else(expected)? {
        "start" => UniqueUntil::Start,
        "success" => UniqueUntil::Success,
        "window" => UniqueUntil::Window,
        _ => return Ok(Known::Later(value)),
    };
    match (key.as_str(), rest) {
        (Some(key), [ttl]) => Ok(Known::Yes(UniqueLock {
            key: UniqueKey::new(key),
            until,
            ttl: at_least_1ms("ttl of lock `u`", ttl.as_u64().ok_or_else(expected)?)?,
        })),
        _ => Err(expected()),
    }
}

fn backoff<E: de::Error>(value: Value) -> Result<Known<Backoff>, E> {
    let expected = || E::custom("invalid backoff `b`: expected a kind and milliseconds");
    let wait = |wait: &Value| {
        wait.as_u64()
            .map(Duration::from_millis)
            .ok_or_else(expected)
    };
    let [kind, waits @ ..] = value.as_array().map_or(&[][..], Vec::as_slice) else {
        return Err(expected());
    };
    match (kind.as_str().ok_or_else(expected)?, waits) {
        ("fixed", [delay]) => Ok(Known::Yes(Backoff::Fixed(wait(delay)?))),
        ("exponential", [base, max]) => {
            let (base, max) = (wait(base)?, wait(max)?);
            Ok(Known::Yes(Backoff::Exponential { base, max }))
        }
        ("fixed" | "exponential", _) => Err(expected()),
        _ => Ok(Known::Later(value)),
    }
}

struct BlobBuf(Bytes);

impl<'de> Deserialize<'de> for BlobBuf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BlobVisitor;

        impl Visitor<'_> for BlobVisitor {
            type Value = BlobBuf;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a binary payload")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<BlobBuf, E> {
                Ok(BlobBuf(Bytes::copy_from_slice(bytes)))
            }
        }

        deserializer.deserialize_bytes(BlobVisitor)
    }
}
