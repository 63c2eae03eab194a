//! Encoding of payloads and results.

mod canonical;
mod order;
mod survey;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

pub(crate) use self::canonical::encode as encode_canonical;
use self::survey::Survey;

/// Encodes values as bytes, and decodes them.
///
/// Each task contains the name of its codec, so a consumer can read what any producer has written.
///
/// ```
/// use asynqueue_core::codec::{Codec, CodecError};
///
/// /// JSON with line breaks, to make payloads readable.
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
    /// The name that is stored with each task. `msgpack` and `json` are reserved.
    const NAME: &'static str;

    /// Encodes a value.
    ///
    /// # Errors
    ///
    /// When this codec cannot represent the value.
    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError>;

    /// Decodes a value.
    ///
    /// # Errors
    ///
    /// When the bytes are not a `T` in this codec.
    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError>;

    /// Encodes a value that a server, or a caller that waits for a result, has to decode, and ensures that it can be
    /// decoded as a `T`. Producers encode payloads with it, and servers results.
    ///
    /// The default implementation decodes the result of [`encode`](Self::encode) in debug builds and with the feature
    /// `testing`. The built-in codecs do so in every build for values that could fail.
    ///
    /// # Errors
    ///
    /// When this codec cannot represent the value, or could not decode it.
    fn encode_checked<T: Serialize + DeserializeOwned>(value: &T) -> Result<Vec<u8>, CodecError> {
        let bytes = Self::encode(value)?;
        if CHECKS_ALL {
            Self::decode::<T>(&bytes).map_err(CodecError::one_way)?;
        }
        Ok(bytes)
    }
}

/// Whether every encoded value is decoded as a check, not only values that could fail.
const CHECKS_ALL: bool = cfg!(any(debug_assertions, feature = "testing"));

/// MessagePack with field names: compact, fast, and open to new fields. The default codec.
///
/// Types such as `IpAddr` and `Uuid` have two forms, a compact and a human-readable one. The compact one is written. If
/// it could not be decoded, which is the case inside tagged and untagged enums and flattened fields, the complete value
/// is written in the human-readable form. Both are decoded.
#[derive(Clone, Copy, Debug)]
pub struct MessagePack;

impl Codec for MessagePack {
    const NAME: &'static str = "msgpack";

    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
        rmp_serde::to_vec_named(value).map_err(CodecError::new)
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
        rmp_serde::from_slice(bytes).or_else(|compact| {
            Self::decode_readable(bytes).map_err(|readable| CodecError::either(compact, readable))
        })
    }

    fn encode_checked<T: Serialize + DeserializeOwned>(value: &T) -> Result<Vec<u8>, CodecError> {
        let survey = Survey::default();
        let bytes = Self::encode(&survey.of(value))?;
        let has_two_forms = survey.readable().is_some();
        if !(has_two_forms || survey.is_wide() || CHECKS_ALL) {
            return Ok(bytes);
        }
        let error = match rmp_serde::from_slice::<T>(&bytes) {
            Ok(_) => return Ok(bytes),
            Err(error) => error,
        };
        match Self::encode_readable(value) {
            Ok(bytes) if has_two_forms && Self::reads_back::<T>(&bytes) => Ok(bytes),
            _ => Err(survey.one_way(error)),
        }
    }
}

impl MessagePack {
    /// Encodes a value for readers of unknown type. All of them can decode the human-readable form.
    pub(crate) fn encode_for_any<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
        let survey = Survey::default();
        let bytes = Self::encode(&survey.of(value))?;
        match survey.readable() {
            None => Ok(bytes),
            Some(_) => Self::encode_readable(value),
        }
    }

    fn encode_readable<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
        let mut bytes = Vec::with_capacity(128);
        let mut serializer = rmp_serde::Serializer::new(&mut bytes)
            .with_struct_map()
            .with_human_readable();
        value.serialize(&mut serializer).map_err(CodecError::new)?;
        Ok(bytes)
    }

    fn decode_readable<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes).with_human_readable();
        T::deserialize(&mut deserializer).map_err(CodecError::new)
    }

    /// Whether bytes in the human-readable form decode to the value that they encode, and not to another one with the
    /// same compact form. The order in a map or a set may differ and does not count.
    fn reads_back<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> bool {
        let again = Self::decode::<T>(bytes).and_then(|value| Self::encode_readable(&value));
        again.is_ok_and(|mut again| {
            let mut bytes = bytes.to_vec();
            bytes.sort_unstable();
            again.sort_unstable();
            again == bytes
        })
    }
}

/// JSON, for producers that support no other format.
///
/// NaN and infinity have no JSON form and are refused.
#[derive(Clone, Copy, Debug)]
pub struct Json;

impl Codec for Json {
    const NAME: &'static str = "json";

    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
        Self::encode_surveyed(value, &Survey::only_finite())
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
        serde_json::from_slice(bytes).map_err(CodecError::new)
    }

    fn encode_checked<T: Serialize + DeserializeOwned>(value: &T) -> Result<Vec<u8>, CodecError> {
        let survey = Survey::only_finite();
        let bytes = Self::encode_surveyed(value, &survey)?;
        if survey.is_wide() || survey.has_other_keys() || CHECKS_ALL {
            Self::decode::<T>(&bytes).map_err(|error| survey.one_way(error))?;
        }
        Ok(bytes)
    }
}

impl Json {
    fn encode_surveyed<T: Serialize + ?Sized>(
        value: &T,
        survey: &Survey,
    ) -> Result<Vec<u8>, CodecError> {
        serde_json::to_vec(&survey.of(value)).map_err(|error| match survey.place() {
            Some(place) => CodecError::new(format!("`{place}`: {error}")),
            None => CodecError::new(error),
        })
    }
}

pub(crate) const UNREADABLE: &str = "unreadable";

/// The name of a codec, as stored with a task.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CodecName(Repr);

/// Two words instead of three, because every waiting task has one.
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

    /// The codec name of an envelope that a broker cannot decode, for example one of a later version. Its payload is
    /// then the complete encoded envelope, for diagnosis.
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

    /// Encodes a value with the codec of this name: a built-in one, or `C`.
    ///
    /// # Errors
    ///
    /// When the codec is unknown to this process, or cannot represent the value.
    pub fn encode<T: Serialize, C: Codec>(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        match self.as_str() {
            name if name == C::NAME => C::encode(value),
            MessagePack::NAME => MessagePack::encode(value),
            Json::NAME => Json::encode(value),
            name => Err(CodecError::unknown(name, C::NAME)),
        }
    }

    /// Like [`encode`](Self::encode), for a value that can be [decoded again](Codec::encode_checked).
    pub(crate) fn encode_checked<T, C>(&self, value: &T) -> Result<Vec<u8>, CodecError>
    where
        T: Serialize + DeserializeOwned,
        C: Codec,
    {
        match self.as_str() {
            name if name == C::NAME => C::encode_checked(value),
            MessagePack::NAME => MessagePack::encode_checked(value),
            Json::NAME => Json::encode_checked(value),
            name => Err(CodecError::unknown(name, C::NAME)),
        }
    }

    /// Encodes a value for readers of unknown type.
    pub(crate) fn encode_for_any<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        match self.as_str() {
            MessagePack::NAME => MessagePack::encode_for_any(value),
            Json::NAME => Json::encode(value),
            name => Err(CodecError::unknown(name, MessagePack::NAME)),
        }
    }

    /// Decodes bytes written by the codec of this name: a built-in one, or `C`.
    ///
    /// # Errors
    ///
    /// When the codec is unknown to this process, or the bytes are not a `T`.
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

/// The error of encoding or decoding a value.
#[derive(thiserror::Error)]
#[error(transparent)]
pub struct CodecError(Box<dyn std::error::Error + Send + Sync>);

crate::debug_as_text!(CodecError);

impl CodecError {
    /// An error of a custom codec.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }

    /// The error for bytes that are invalid in both forms, usually for the same reason.
    fn either(compact: rmp_serde::decode::Error, readable: Self) -> Self {
        let (one, other) = (compact.to_string(), readable.to_string());
        if one == other {
            return Self::new(compact);
        }
        Self::new(format!("{one}; in the human-readable form: {other}"))
    }

    /// The error for a value whose encoded form cannot be decoded.
    fn one_way(cause: impl fmt::Display) -> Self {
        Self::new(format!("its encoded form cannot be decoded: {cause}"))
    }

    fn unknown(name: &str, own: &str) -> Self {
        let mut known = vec![MessagePack::NAME, Json::NAME];
        if !known.contains(&own) {
            known.push(own);
        }
        Self::new(format!(
            "unknown codec `{name}`: expected one of {}",
            known.join(", ")
        ))
    }
}
