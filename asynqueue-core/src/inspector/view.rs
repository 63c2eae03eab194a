//! Payloads and results as JSON, regardless of their codec, to display and edit.
//!
//! What JSON cannot represent is marked by keys that start with `$`.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    msgpack,
    redact::{MARKER, Redaction},
};
use crate::codec::{Codec, CodecError, CodecName, Json, MessagePack, UNREADABLE};

/// Converts payloads and results to JSON, and edited JSON back to bytes.
///
/// JSON payloads are shown unchanged, except that integers beyond 64 bits become floats. MessagePack has values that
/// JSON lacks:
///
/// | MessagePack | Shown as |
/// |---|---|
/// | bytes | `{"$binary": "<base64>"}` |
/// | bytes that are UTF-8 without control characters | the text |
/// | an extension, such as a timestamp | `{"$ext": {"type": -1, "data": "<base64>"}}` |
/// | a key of a map that is not text, such as 7 | `"$7"`: the key as JSON after a `$` |
/// | a key of a map that starts with `$`, such as `$ref` | `"$$ref"` |
/// | a float that is not finite | `"NaN"`, `"Infinity"` or `"-Infinity"` |
///
/// All but the second and the last are restored when they are [parsed](Self::parse). Most types that hold bytes also
/// accept text in their place.
///
/// Other codecs are supported if they are [registered](Self::with_codec) and are self-describing. Unknown codecs and
/// undecodable bytes are shown as `{"$codec": "<name>", "$base64": "<all bytes>", "$error": "<why>"}`.
#[derive(Clone, Default)]
pub struct Viewer {
    others: Vec<Registered>,
    redaction: Redaction,
}

/// The operations of a codec on JSON values.
#[derive(Clone, Copy)]
struct Registered {
    name: &'static str,
    decode: fn(&[u8]) -> Result<Value, CodecError>,
    encode: fn(&Value) -> Result<Vec<u8>, CodecError>,
}

/// The error for a value that cannot be encoded.
#[derive(thiserror::Error)]
pub(super) enum ViewError {
    #[error("unknown codec `{name}`: expected one of {known}; register it with `with_codec`")]
    UnknownCodec { name: String, known: String },
    #[error("the value is nested too deeply: expected at most {MAX_DEPTH} levels")]
    TooDeep,
    #[error(
        "the value is the placeholder for an undecodable `{codec}` payload: expected the payload itself"
    )]
    NotDecoded { codec: String },
    #[error("`{field}` is redacted, but had no value in this place before: expected a new value")]
    Redacted { field: String },
}

crate::debug_as_text!(ViewError);

/// The maximum nesting of values, so that no stack overflows. The JSON parser has the same limit.
pub(super) const MAX_DEPTH: usize = 127;

/// The keys of the placeholder for undecodable bytes.
const NOT_DECODED: [&str; 3] = ["$codec", "$base64", "$error"];

impl Viewer {
    /// Adds support for codec `C`, if it is self-describing.
    #[must_use]
    pub fn with_codec<C: Codec>(mut self) -> Self {
        self.others.push(Registered {
            name: C::NAME,
            decode: C::decode,
            encode: C::encode,
        });
        self
    }

    /// Hides the values of fields with these names, at any depth and ignoring case: `"[redacted]"` is shown instead.
    /// Undecodable payloads are hidden completely, and so is a map with a list or a map as a key.
    #[must_use]
    pub fn redact(mut self, fields: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.redaction.add(fields);
        self
    }

    /// The JSON of bytes in a codec.
    pub fn show(&self, codec: &CodecName, bytes: &[u8]) -> Value {
        let decoded = self.decode(codec, bytes);
        let is_decoded = decoded.is_ok();
        let mut shown = decoded.unwrap_or_else(|error| {
            let [name, base64, reason] = NOT_DECODED;
            json!({
                name: codec.as_str(),
                base64: STANDARD.encode(bytes),
                reason: error.to_string(),
            })
        });
        if is_decoded {
            self.redaction.hide(&mut shown);
        } else if !self.redaction.is_empty() {
            shown[NOT_DECODED[1]] = MARKER.into();
        }
        shown
    }

    /// Hides the redacted fields of a value that was shown by another viewer.
    pub(super) fn hide(&self, shown: &mut Value) {
        if is_not_decoded(shown) && self.redacts() {
            shown[NOT_DECODED[1]] = MARKER.into();
        }
        self.redaction.hide(shown);
    }

    pub(super) fn redacts(&self) -> bool {
        !self.redaction.is_empty()
    }

    fn decode(&self, codec: &CodecName, bytes: &[u8]) -> Result<Value, CodecError> {
        let shown = match codec.as_str() {
            MessagePack::NAME => msgpack::show(bytes),
            // Redacted fields may be anywhere in it, in any form.
            UNREADABLE if self.redaction.is_empty() => msgpack::show(bytes),
            Json::NAME => Json::decode(bytes),
            name => self
                .registered(name)
                .and_then(|codec| (codec.decode)(bytes)),
        };
        shown.and_then(limited)
    }

    /// Encodes a value that was [shown](Self::show) and edited. A redacted field that still is `"[redacted]"` keeps its
    /// value; it is matched by key in maps and by index in lists.
    ///
    /// # Errors
    ///
    /// As for [`parse`](Self::parse), and when `"[redacted]"` is in a place that had no value before, for example in a
    /// list of another length.
    pub fn edit(
        &self,
        codec: &CodecName,
        original: &[u8],
        edited: &Value,
    ) -> Result<Vec<u8>, CodecError> {
        check_depth(edited)?;
        let mut edited = edited.clone();
        if !self.redaction.is_empty() {
            let original = self.decode(codec, original).ok();
            let restored = self.redaction.restore(&mut edited, original.as_ref());
            restored.map_err(CodecError::new)?;
        }
        self.parse(codec, &edited)
    }

    /// Encodes a value in the form that [`show`](Self::show) returns.
    ///
    /// # Errors
    ///
    /// When the codec is unknown or cannot represent the value, the value is nested more than 127 levels deep, a marker
    /// such as `$binary` is malformed, or the value is the placeholder for an undecodable payload.
    pub fn parse(&self, codec: &CodecName, json: &Value) -> Result<Vec<u8>, CodecError> {
        check_depth(json)?;
        let encode: fn(&Value) -> _ = match codec.as_str() {
            MessagePack::NAME => msgpack::parse,
            Json::NAME => Json::encode,
            name => self.registered(name)?.encode,
        };
        if is_not_decoded(json) {
            let codec = codec.as_str().to_owned();
            return Err(CodecError::new(ViewError::NotDecoded { codec }));
        }
        encode(json)
    }

    fn registered(&self, name: &str) -> Result<&Registered, CodecError> {
        let find = || self.others.iter().find(|codec| codec.name == name);
        find().ok_or_else(|| {
            CodecError::new(ViewError::UnknownCodec {
                name: name.to_owned(),
                known: self.names().join(", "),
            })
        })
    }

    fn names(&self) -> Vec<&'static str> {
        let others = self.others.iter().map(|codec| codec.name);
        [MessagePack::NAME, Json::NAME]
            .into_iter()
            .chain(others)
            .collect()
    }
}

impl fmt::Debug for Viewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Viewer")
            .field("codecs", &self.names())
            .field("redaction", &self.redaction)
            .finish()
    }
}

/// Whether a value is the placeholder for undecodable bytes.
fn is_not_decoded(value: &Value) -> bool {
    value.as_object().is_some_and(|map| {
        map.len() == NOT_DECODED.len() && NOT_DECODED.iter().all(|key| map.contains_key(*key))
    })
}

fn limited(value: Value) -> Result<Value, CodecError> {
    check_depth(&value)?;
    Ok(value)
}

fn check_depth(value: &Value) -> Result<(), CodecError> {
    if is_within(value, MAX_DEPTH) {
        Ok(())
    } else {
        Err(CodecError::new(ViewError::TooDeep))
    }
}

/// Whether a value has at most this many levels of lists and maps. Deeper levels are not visited.
pub(super) fn is_within(value: &Value, levels: usize) -> bool {
    let fits = |inner: &Value| levels > 0 && is_within(inner, levels - 1);
    match value {
        Value::Array(list) => levels > 0 && list.iter().all(fits),
        Value::Object(map) => levels > 0 && map.values().all(fits),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// JSON with line breaks.
    struct Pretty;

    impl Codec for Pretty {
        const NAME: &'static str = "pretty";

        fn encode<T: serde::Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
            serde_json::to_vec_pretty(value).map_err(CodecError::new)
        }

        fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
            serde_json::from_slice(bytes).map_err(CodecError::new)
        }
    }

    fn json_codec() -> CodecName {
        CodecName::of::<Json>()
    }

    #[test]
    fn json_is_shown_and_parsed_unchanged() {
        let viewer = Viewer::default();
        let value = json!({"$binary": 1, "n": u64::MAX, "m": i64::MIN, "$7": [null, 0.5]});
        let bytes = value.to_string().into_bytes();
        assert_eq!(viewer.show(&json_codec(), &bytes), value);
        assert_eq!(viewer.parse(&json_codec(), &value).expect("bytes"), bytes);
    }

    #[test]
    fn a_codec_is_supported_once_it_is_registered() {
        let codec = CodecName::of::<Pretty>();
        let viewer = Viewer::default();
        assert_eq!(
            viewer.show(&codec, b"[1]"),
            json!({
                "$codec": "pretty",
                "$base64": "WzFd",
                "$error": "unknown codec `pretty`: expected one of msgpack, json; register it with `with_codec`",
            })
        );
        let error = viewer.parse(&codec, &json!([1])).expect_err("unknown");
        assert!(
            error.to_string().contains("unknown codec `pretty`"),
            "{error}"
        );

        let viewer = viewer.with_codec::<Pretty>();
        assert_eq!(
            format!("{viewer:?}"),
            r#"Viewer { codecs: ["msgpack", "json", "pretty"], redaction: Redaction { fields: [] } }"#
        );
        assert_eq!(viewer.show(&codec, b"[1]"), json!([1]));
        assert_eq!(
            viewer.parse(&codec, &json!([1])).expect("bytes"),
            b"[\n  1\n]"
        );
    }

    #[test]
    fn undecodable_bytes_are_shown_with_the_reason_and_not_parsed() {
        let viewer = Viewer::default();
        for (codec, bytes) in [
            (json_codec(), b"{".as_slice()),
            (json_codec(), b"\xff"),
            (CodecName::of::<MessagePack>(), b"\x92\x01"),
            (CodecName::of::<MessagePack>(), b"\x01\x02"),
            (CodecName::of::<MessagePack>(), b""),
        ] {
            let shown = viewer.show(&codec, bytes);
            assert_eq!(shown["$codec"], codec.as_str());
            assert_eq!(shown["$base64"], STANDARD.encode(bytes));
            assert_ne!(shown["$error"], "");
            let error = viewer.parse(&codec, &shown).expect_err("not decoded");
            assert!(
                error.to_string().contains("expected the payload itself"),
                "{error}"
            );
        }
    }

    #[test]
    fn deep_values_are_neither_shown_nor_parsed() {
        let viewer = Viewer::default();
        let msgpack = [vec![0x91; 100_000], vec![0xc0]].concat();
        let json = "[".repeat(100_000);
        let shown = [
            viewer.show(&CodecName::of::<MessagePack>(), &msgpack),
            viewer.show(&json_codec(), json.as_bytes()),
        ];
        assert!(shown.iter().all(|value| value.get("$error").is_some()));

        let nested = |levels| (0..levels).fold(Value::Null, |inner, _| json!([inner]));
        for codec in [json_codec(), CodecName::of::<MessagePack>()] {
            viewer.parse(&codec, &nested(127)).expect("not too deep");
            let error = viewer.parse(&codec, &nested(128)).expect_err("too deep");
            assert!(error.to_string().contains("at most 127 levels"), "{error}");
        }
    }
}
