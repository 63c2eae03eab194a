//! Documents as bytes: MessagePack maps. Fields written by later versions survive a change by this one.

use std::{collections::BTreeMap, fmt};

use rmpv::Value;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::broker::{BrokerError, Document, Expect};

/// The known fields of a document, and the fields that only a later version knows. A change of the former keeps the
/// latter.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Record<T> {
    #[serde(flatten)]
    pub(super) known: T,
    #[serde(flatten)]
    later: BTreeMap<String, Value>,
}

impl<T> Record<T> {
    pub(super) fn new(known: T) -> Self {
        Self {
            known,
            later: BTreeMap::new(),
        }
    }

    /// The same document with other known fields.
    pub(super) fn with(&self, known: T) -> Self {
        Self {
            known,
            later: self.later.clone(),
        }
    }
}

/// Encodes a document.
pub(super) fn encode(value: &impl Serialize) -> Result<bytes::Bytes, BrokerError> {
    let bytes = rmp_serde::to_vec_named(value);
    bytes.map(Into::into).map_err(|error| {
        BrokerError::protocol(format!("could not encode a document: {error}")).caused_by(error)
    })
}

/// Decodes a document. `what` names it, such as ``schedule entry `nightly` ``.
pub(super) fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    what: impl fmt::Display,
) -> Result<T, BrokerError> {
    rmp_serde::from_slice(bytes).map_err(|error| {
        BrokerError::protocol(format!(
            "{what} is undecodable: {error}; a later version may have written it"
        ))
        .caused_by(error)
    })
}

/// Decodes a document. Logs an undecodable one and returns `None`, so that it does not hide the others.
pub(super) fn readable<T: DeserializeOwned>(bytes: &[u8], what: impl fmt::Display) -> Option<T> {
    let undecodable =
        |error: &BrokerError| tracing::warn!(%error, "document is undecodable; skipping it");
    decode(bytes, what).inspect_err(undecodable).ok()
}

/// Expects that a document has not changed since it was read.
pub(super) fn as_read(document: Option<&Document>) -> Expect {
    document.map_or(Expect::Absent, |document| Expect::Version(document.version))
}
