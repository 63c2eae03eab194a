//! Documents as bytes: MessagePack maps, whose fields of later versions survive a change by this one.

use std::{collections::BTreeMap, fmt};

use rmpv::Value;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::broker::{BrokerError, Document, Expect};

/// What is known of a document, and what only a later version knows of it. Who changes the one keeps the other.
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

    /// The same with something else that is known.
    pub(super) fn with(&self, known: T) -> Self {
        Self {
            known,
            later: self.later.clone(),
        }
    }
}

/// A document's bytes.
pub(super) fn encode(value: &impl Serialize) -> Result<bytes::Bytes, BrokerError> {
    let bytes = rmp_serde::to_vec_named(value);
    bytes.map(Into::into).map_err(|error| {
        BrokerError::protocol(format!("a document cannot be written: {error}")).caused_by(error)
    })
}

/// Reads a document. `what` names it, such as ``schedule entry `nightly` ``.
pub(super) fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    what: impl fmt::Display,
) -> Result<T, BrokerError> {
    rmp_serde::from_slice(bytes).map_err(|error| {
        BrokerError::protocol(format!(
            "{what} cannot be read: {error}; a later version may have written it"
        ))
        .caused_by(error)
    })
}

/// Reads a document, unless it cannot be read: then it is left out, and hides no other.
pub(super) fn readable<T: DeserializeOwned>(bytes: &[u8], what: impl fmt::Display) -> Option<T> {
    let left_out = |error: &BrokerError| tracing::warn!(%error, "a document is left out");
    decode(bytes, what).inspect_err(left_out).ok()
}

/// That a document is as it was read.
pub(super) fn as_read(document: Option<&Document>) -> Expect {
    document.map_or(Expect::Absent, |document| Expect::Version(document.version))
}
