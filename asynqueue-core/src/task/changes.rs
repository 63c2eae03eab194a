//! The changes that workers make to a task, encoded separately: a store that keeps them beside the envelope never
//! rewrites the payload.
//!
//! Specified in `docs/src/protocol.md`.

use std::collections::BTreeMap;

use rmp_serde::decode::Error as DecodeError;
use rmpv::Value;
use serde::{Deserialize, Serialize};

use super::{
    Envelope, Failure, Headers, Name, Run, Timestamp, WireError,
    wire::{VERSION, decode_all, supported},
};

/// The headers that a worker may set: the W3C trace context.
const TRACE_HEADERS: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// All changes that workers have made to a task since it was enqueued: attempts, failures, the run that completed it,
/// and internal notes of servers.
///
/// It contains the complete state of these fields, not the difference made by one attempt. A store keeps only the
/// newest one, beside an envelope that it never rewrites, and [applies](Envelope::apply) it to each envelope that it
/// reads.
///
/// ```
/// # use asynqueue_core::{
/// #     codec::{CodecName, MessagePack},
/// #     task::{Envelope, EnvelopeChanges, TaskId},
/// # };
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let codec = CodecName::of::<MessagePack>();
/// # let mut task = Envelope::new(TaskId::generate(), "report", codec, vec![0; 100_000].into());
/// let stored = task.clone();
/// task.attempts = 2;
/// task.set_place(Some(7));
/// let bytes = EnvelopeChanges::of(&task).to_bytes();
/// assert_eq!(bytes.len(), 10);
///
/// let mut read = stored;
/// read.apply(EnvelopeChanges::from_bytes(&bytes)?);
/// assert_eq!(read, task);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct EnvelopeChanges(Fields);

/// The fields, with the same keys as in the envelope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Fields {
    #[serde(rename = "v")]
    version: u64,
    #[serde(rename = "n", default, skip_serializing_if = "is_default")]
    attempts: u32,
    #[serde(rename = "f", default, skip_serializing_if = "is_default")]
    failures: Vec<Failure>,
    #[serde(rename = "i", default, skip_serializing_if = "is_default")]
    started: bool,
    #[serde(rename = "z", default, skip_serializing_if = "is_default")]
    completed: Option<Run>,
    #[serde(rename = "w", default, skip_serializing_if = "is_default")]
    unhandled_since: Option<Timestamp>,
    #[serde(rename = "q", default, skip_serializing_if = "is_default")]
    place: Option<u64>,
    /// Only the headers of the trace.
    #[serde(rename = "h", default, skip_serializing_if = "is_default")]
    headers: BTreeMap<Name, String>,
    /// Fields of a later version.
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl EnvelopeChanges {
    /// The changes that workers have made to `task`.
    pub fn of(task: &Envelope) -> Self {
        let header = |key| Some((Name::from_static(key), task.headers.get(key)?.to_owned()));
        // A known key whose value is from a later version was written by the producer.
        let is_new = |(key, _): &&(String, Value)| !matches!(key.as_str(), "u" | "b");
        Self(Fields {
            version: VERSION,
            attempts: task.attempts,
            failures: task.failures().to_vec(),
            started: task.is_started(),
            completed: task.completed().cloned(),
            unhandled_since: task.unhandled_since(),
            place: task.place(),
            headers: TRACE_HEADERS.into_iter().filter_map(header).collect(),
            unknown: task.unknown().iter().filter(is_new).cloned().collect(),
        })
    }

    /// Encodes the changes: a few dozen bytes plus those of the failures.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = rmp_serde::to_vec_named(&self.0);
        // Encoding plain data into memory cannot fail.
        debug_assert!(bytes.is_ok(), "{bytes:?}");
        bytes.unwrap_or_default()
    }

    /// Decodes the result of [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    ///
    /// When the bytes are invalid, or of a later, incompatible version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        decode_all("task changes", bytes, |reader| {
            let fields = Fields::deserialize(reader)?;
            supported::<DecodeError>(fields.version)?;
            Ok(Self(fields))
        })
    }
}

impl Envelope {
    /// Replaces these fields of the enqueued envelope with the changed ones.
    pub fn apply(&mut self, changes: EnvelopeChanges) {
        let Fields {
            version: _,
            attempts,
            failures,
            started,
            completed,
            unhandled_since,
            place,
            headers,
            unknown,
        } = changes.0;
        self.attempts = attempts;
        self.set_noted(failures, started, completed, unhandled_since, place);
        if TRACE_HEADERS
            .iter()
            .any(|key| self.headers.get(key) != headers.get(*key).map(String::as_str))
        {
            let own = self
                .headers
                .iter()
                .filter(|(key, _)| !TRACE_HEADERS.contains(key));
            let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
            let traced = headers
                .into_iter()
                .map(|(key, value)| (key.to_string(), value));
            self.headers = own.chain(traced).collect::<Headers>();
        }
        for (key, value) in unknown {
            self.put_unknown(key, value);
        }
    }
}
