//! The envelope's bytes, specified for other languages in `docs/src/protocol.md`.
//!
//! One MessagePack map with short keys; what has its default value is left out. The id and the queue are not in it:
//! they are where the bytes are kept.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, Visitor},
    ser::SerializeMap,
};

use super::{
    Backoff, Envelope, Headers, Name, TaskId, TaskOptions, UniqueKey, UniqueLock, UniqueUntil,
};
use crate::codec::{CodecName, MessagePack};

/// The version written; a reader refuses a higher one.
const VERSION: u64 = 1;

impl Envelope {
    /// The envelope as bytes, without its id and queue.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.payload.len() + 64);
        let mut serializer = rmp_serde::Serializer::new(&mut bytes).with_struct_map();
        // Writing plain data into memory: there is nothing that can fail.
        let written = Fields(self).serialize(&mut serializer);
        debug_assert!(written.is_ok(), "{written:?}");
        bytes
    }

    /// Reads the envelope that is kept for task `id` of `queue`.
    ///
    /// # Errors
    ///
    /// When the bytes are not an envelope, or are of a version that is newer than this one in an incompatible way.
    pub fn from_bytes(queue: Name, id: TaskId, bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
        Reader { queue, id }
            .deserialize(&mut reader)
            .map_err(WireError)
    }
}

/// Bytes that are not an envelope.
#[derive(Debug, thiserror::Error)]
#[error("not a task envelope of version {VERSION} or lower: {0}")]
pub struct WireError(#[source] rmp_serde::decode::Error);

/// Serializes an envelope's fields as a map.
struct Fields<'a>(&'a Envelope);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let task = self.0;
        let options = &*task.options;
        let defaults = &*TaskOptions::shared_default();
        let unknown = task.unknown();

        let mut known = Counted::default();
        let Ok(()) = known.write(task, options, defaults);
        let mut map = SerializeEntries(serializer.serialize_map(Some(known.0 + unknown.len()))?);
        map.write(task, options, defaults)?;
        for (key, value) in unknown {
            map.0.serialize_entry(key, value)?;
        }
        map.0.end()
    }
}

/// Takes the fields one by one: first to count them, since MessagePack writes a map's length first, then to write.
trait Entries {
    type Error;

    fn entry<T: Serialize>(&mut self, key: &str, value: T) -> Result<(), Self::Error>;

    fn entry_unless<T: Serialize>(
        &mut self,
        is_default: bool,
        key: &str,
        value: T,
    ) -> Result<(), Self::Error> {
        if is_default {
            Ok(())
        } else {
            self.entry(key, value)
        }
    }

    fn write(
        &mut self,
        task: &Envelope,
        options: &TaskOptions,
        defaults: &TaskOptions,
    ) -> Result<(), Self::Error> {
        self.entry("v", VERSION)?;
        self.entry("e", &task.event)?;
        self.entry("p", Blob(&task.payload))?;
        self.entry("t", task.enqueued_at)?;
        self.entry_unless(
            task.codec == CodecName::of::<MessagePack>(),
            "c",
            task.codec.as_str(),
        )?;
        self.entry_unless(task.headers.is_empty(), "h", HeaderMap(&task.headers))?;
        self.entry_unless(task.deadline.is_none(), "d", task.deadline)?;
        self.entry_unless(task.attempts == 0, "n", task.attempts)?;
        self.entry_unless(task.failures().is_empty(), "f", task.failures())?;
        if let Some(lock) = &task.unique {
            self.entry("u", (&lock.key, lock.until, millis(lock.ttl)))?;
        }
        self.entry_unless(
            options.max_retry == defaults.max_retry,
            "r",
            options.max_retry,
        )?;
        self.entry_unless(
            options.timeout == defaults.timeout,
            "o",
            millis(options.timeout),
        )?;
        self.entry_unless(
            options.retention == defaults.retention,
            "k",
            millis(options.retention),
        )?;
        self.entry_unless(options.priority == defaults.priority, "y", options.priority)?;
        self.entry_unless(options.group.is_none(), "g", &options.group)?;
        match options.backoff {
            Backoff::Standard => Ok(()),
            Backoff::Fixed(delay) => self.entry("b", ("fixed", millis(delay))),
            Backoff::Exponential { base, max } => {
                self.entry("b", ("exponential", millis(base), millis(max)))
            }
        }
    }
}

#[derive(Default)]
struct Counted(usize);

impl Entries for Counted {
    type Error = std::convert::Infallible;

    fn entry<T: Serialize>(&mut self, _key: &str, _value: T) -> Result<(), Self::Error> {
        self.0 += 1;
        Ok(())
    }
}

struct SerializeEntries<M>(M);

impl<M: SerializeMap> Entries for SerializeEntries<M> {
    type Error = M::Error;

    fn entry<T: Serialize>(&mut self, key: &str, value: T) -> Result<(), M::Error> {
        self.0.serialize_entry(key, &value)
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

struct Blob<'a>(&'a [u8]);

impl Serialize for Blob<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct HeaderMap<'a>(&'a Headers);

impl Serialize for HeaderMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter())
    }
}

/// Reads the map for the task at the given place.
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
        f.write_str("a map of a task's fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
        let codec = CodecName::of::<MessagePack>();
        let mut task = Envelope::new(self.id, Name::from_static(""), codec, Bytes::new());
        let mut options = TaskOptions {
            queue: self.queue.clone(),
            ..TaskOptions::default()
        };
        task.queue = self.queue;
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
                "u" => task.unique = Some(Box::new(read_lock(map.next_value()?))),
                "r" => options.max_retry = map.next_value()?,
                "o" => options.timeout = Duration::from_millis(map.next_value()?),
                "k" => options.retention = Duration::from_millis(map.next_value()?),
                "y" => options.priority = map.next_value()?,
                "g" => options.group = map.next_value()?,
                "b" => options.backoff = map.next_value::<BackoffBuf>()?.0,
                _ => {
                    let value = map.next_value::<rmpv::Value>()?;
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

fn supported<E: de::Error>(version: u64) -> Result<u64, E> {
    if version <= VERSION {
        Ok(version)
    } else {
        Err(E::custom(format_args!("it is of version {version}")))
    }
}

fn read_lock((key, until, ttl): (UniqueKey, UniqueUntil, u64)) -> UniqueLock {
    UniqueLock {
        key,
        until,
        ttl: Duration::from_millis(ttl),
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

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<BlobBuf, E> {
                Ok(BlobBuf(bytes.into()))
            }
        }

        deserializer.deserialize_bytes(BlobVisitor)
    }
}

struct BackoffBuf(Backoff);

impl<'de> Deserialize<'de> for BackoffBuf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BackoffVisitor;

        impl<'de> Visitor<'de> for BackoffVisitor {
            type Value = BackoffBuf;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a backoff: its kind, then its milliseconds")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<BackoffBuf, A::Error> {
                let kind: String = seq
                    .next_element()?
                    .ok_or_else(|| de::Error::invalid_length(0, &self))?;
                let mut wait = || match seq.next_element() {
                    Ok(Some(ms)) => Ok(Duration::from_millis(ms)),
                    Ok(None) => Err(de::Error::invalid_length(1, &self)),
                    Err(error) => Err(error),
                };
                let backoff = match kind.as_str() {
                    "fixed" => Backoff::Fixed(wait()?),
                    "exponential" => Backoff::Exponential {
                        base: wait()?,
                        max: wait()?,
                    },
                    // A kind of a later version: the task still runs, with the standard waits.
                    _ => Backoff::Standard,
                };
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(BackoffBuf(backoff))
            }
        }

        deserializer.deserialize_seq(BackoffVisitor)
    }
}
