//! How payloads and results become bytes.

use std::{fmt, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

/// Turns values into bytes and back.
///
/// The codec's name travels with each task, so a consumer can read what any producer wrote.
///
/// ```
/// use asynqueue_core::{Codec, CodecError};
///
/// /// JSON with line breaks, for payloads that people read.
/// struct PrettyJson;
///
/// impl Codec for PrettyJson {
///     const NAME: &'static str = "pretty-json";
///
///     fn encode<T: serde::Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
///         serde_json::to_vec_pretty(value).map_err(CodecError::new)
///     }
///
///     fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
///         serde_json::from_slice(bytes).map_err(CodecError::new)
///     }
/// }
/// ```
pub trait Codec: Send + Sync + 'static {
    /// The name that travels with the task. `msgpack` and `json` are taken.
    const NAME: &'static str;

    /// Encodes a value.
    ///
    /// # Errors
    ///
    /// When the value has no form in this codec.
    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError>;

    /// Decodes a value.
    ///
    /// # Errors
    ///
    /// When the bytes are not a `T` in this codec.
    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError>;
}

/// MessagePack with field names, the default: compact, quick, and open to new fields.
#[derive(Clone, Copy, Debug)]
pub struct MessagePack;

impl Codec for MessagePack {
    const NAME: &'static str = "msgpack";

    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
        rmp_serde::to_vec_named(value).map_err(CodecError::new)
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
        rmp_serde::from_slice(bytes).map_err(CodecError::new)
    }
}

/// JSON, for producers that speak nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Json;

impl Codec for Json {
    const NAME: &'static str = "json";

    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
        serde_json::to_vec(value).map_err(CodecError::new)
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
        serde_json::from_slice(bytes).map_err(CodecError::new)
    }
}

pub(crate) const UNREADABLE: &str = "unreadable";

/// The name of a codec, as it travels.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CodecName(Repr);

/// Two words rather than three, since every waiting task has one.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    MessagePack,
    Json,
    Other(Arc<str>),
}

impl CodecName {
    /// The name of codec `C`.
    pub fn of<C: Codec>() -> Self {
        Self::from_wire(C::NAME)
    }

    /// What brokers say of an envelope that they cannot read, such as one of a later version: its payload is then the whole
    /// envelope, for people to look at.
    pub fn unreadable() -> Self {
        Self::from_wire(UNREADABLE)
    }

    pub(crate) fn from_wire(name: &str) -> Self {
        Self(match name {
            MessagePack::NAME => Repr::MessagePack,
            Json::NAME => Repr::Json,
            other => Repr::Other(other.into()),
        })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::MessagePack => MessagePack::NAME,
            Repr::Json => Json::NAME,
            Repr::Other(name) => name,
        }
    }

    /// Encodes a value with the codec of this name: a stock one, or `C`.
    ///
    /// # Errors
    ///
    /// When this process knows no such codec, or the value has no form in it.
    pub fn encode<T: Serialize, C: Codec>(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        match self.as_str() {
            name if name == C::NAME => C::encode(value),
            MessagePack::NAME => MessagePack::encode(value),
            Json::NAME => Json::encode(value),
            name => Err(CodecError::unknown(name, C::NAME)),
        }
    }

    /// Decodes bytes that were written by the codec of this name: a stock one, or `C`.
    ///
    /// # Errors
    ///
    /// When this process knows no such codec, or the bytes are not a `T`.
    pub fn decode<T: DeserializeOwned, C: Codec>(&self, bytes: &[u8]) -> Result<T, CodecError> {
        match self.as_str() {
            name if name == C::NAME => C::decode(bytes),
            MessagePack::NAME => MessagePack::decode(bytes),
            Json::NAME => Json::decode(bytes),
            name => Err(CodecError::unknown(name, C::NAME)),
        }
    }
}

impl fmt::Display for CodecName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for CodecName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A value that could not be encoded or decoded.
#[derive(thiserror::Error)]
#[error(transparent)]
pub struct CodecError(Box<dyn std::error::Error + Send + Sync>);

crate::debug_as_text!(CodecError);

impl CodecError {
    /// An error of the codec's own.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }

    fn unknown(name: &str, own: &str) -> Self {
        let mut known = vec![MessagePack::NAME, Json::NAME];
        if !known.contains(&own) {
            known.push(own);
        }
        Self::new(format!(
            "unknown codec `{name}`: this process knows {}",
            known.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_reads_what_any_stock_codec_wrote() {
        for (name, bytes) in [
            (
                CodecName::of::<MessagePack>(),
                MessagePack::encode("hi").expect("encodes"),
            ),
            (
                CodecName::of::<Json>(),
                Json::encode("hi").expect("encodes"),
            ),
        ] {
            assert_eq!(
                name.decode::<String, MessagePack>(&bytes).expect("decodes"),
                "hi"
            );
        }
    }

    #[test]
    fn an_unknown_codec_is_named_with_the_known_ones() {
        let error = CodecName::from_wire("bson")
            .decode::<String, MessagePack>(b"")
            .expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "unknown codec `bson`: this process knows msgpack, json"
        );
    }
}
