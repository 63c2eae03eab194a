//! Payloads and results as JSON, whatever their codec.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use crate::codec::{Codec, CodecError, CodecName, Json, MessagePack};

/// Shows encoded values as JSON, and encodes what was edited.
///
/// MessagePack is shown as the JSON that it stands for; bytes that are no text as `{"$base64": "…"}`. What cannot be read, or
/// is in a codec that was not [added](Self::with_codec), is shown as its bytes too, with the reason.
#[derive(Clone, Debug, Default)]
pub struct Viewer {
    codecs: Vec<Known>,
}

/// A codec of the user's own.
#[derive(Clone, Debug)]
struct Known {
    name: CodecName,
    show: fn(&[u8]) -> Result<Value, CodecError>,
    parse: fn(&Value) -> Result<Vec<u8>, CodecError>,
}

/// Deeper values are cut: nobody reads them, and they could use up the stack.
const MAX_DEPTH: usize = 100;

/// The field under which bytes are shown.
const BYTES: &str = "$base64";

impl Viewer {
    /// Also shows values in codec `C`, which must be able to decode without knowing the type.
    #[must_use]
    pub fn with_codec<C: Codec>(mut self) -> Self {
        self.codecs.push(Known {
            name: CodecName::of::<C>(),
            show: C::decode::<Value>,
            parse: C::encode::<Value>,
        });
        self
    }

    /// A value as JSON.
    pub fn show(&self, codec: &CodecName, bytes: &[u8]) -> Value {
        let shown = match codec.as_str() {
            MessagePack::NAME => show_msgpack(bytes),
            Json::NAME => Json::decode(bytes).map_err(|error| error.to_string()),
            name => match self.codecs.iter().find(|known| known.name == *codec) {
                Some(known) => (known.show)(bytes).map_err(|error| error.to_string()),
                None => Err(format!("codec `{name}` is not known here")),
            },
        };
        shown.unwrap_or_else(|error| {
            json!({ BYTES: BASE64_STANDARD.encode(bytes), "$codec": codec.as_str(), "$error": error })
        })
    }

    /// Encodes JSON in a codec: the way back from [`show`](Self::show).
    ///
    /// # Errors
    ///
    /// When the codec is not known here, or the value has no form in it.
    pub fn parse(&self, codec: &CodecName, value: &Value) -> Result<Vec<u8>, CodecError> {
        match codec.as_str() {
            MessagePack::NAME => {
                let mut bytes = Vec::new();
                let value = to_msgpack(value)?;
                rmpv::encode::write_value(&mut bytes, &value).map_err(CodecError::new)?;
                Ok(bytes)
            }
            Json::NAME => Json::encode(value),
            name => match self.codecs.iter().find(|known| known.name == *codec) {
                Some(known) => (known.parse)(value),
                None => Err(CodecError::new(std::io::Error::other(format!(
                    "codec `{name}` is not known here: add it with `with_codec`"
                )))),
            },
        }
    }
}

fn show_msgpack(mut bytes: &[u8]) -> Result<Value, String> {
    let value = rmpv::decode::read_value_with_max_depth(&mut bytes, MAX_DEPTH)
        .map_err(|error| error.to_string())?;
    if bytes.is_empty() {
        Ok(from_msgpack(value))
    } else {
        Err(format!("{} bytes follow the value", bytes.len()))
    }
}

fn from_msgpack(value: rmpv::Value) -> Value {
    match value {
        rmpv::Value::Nil => Value::Null,
        rmpv::Value::Boolean(value) => value.into(),
        rmpv::Value::Integer(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => Value::Null,
        },
        rmpv::Value::F32(number) => float(number.into()),
        rmpv::Value::F64(number) => float(number),
        rmpv::Value::String(text) => match text.into_str() {
            Some(text) => text.into(),
            None => Value::Null,
        },
        rmpv::Value::Binary(bytes) => json!({ BYTES: BASE64_STANDARD.encode(bytes) }),
        rmpv::Value::Array(values) => values.into_iter().map(from_msgpack).collect(),
        rmpv::Value::Map(fields) => {
            let field = |(key, value)| (key_text(key), from_msgpack(value));
            Value::Object(fields.into_iter().map(field).collect())
        }
        rmpv::Value::Ext(kind, bytes) => {
            json!({ BYTES: BASE64_STANDARD.encode(bytes), "$ext": kind })
        }
    }
}

fn float(number: f64) -> Value {
    serde_json::Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::Number)
}

/// JSON has no keys but text.
fn key_text(key: rmpv::Value) -> String {
    match from_msgpack(key) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn to_msgpack(value: &Value) -> Result<rmpv::Value, CodecError> {
    Ok(match value {
        Value::Null => rmpv::Value::Nil,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(values) => {
            let values = values.iter().map(to_msgpack).collect::<Result<_, _>>()?;
            rmpv::Value::Array(values)
        }
        Value::Object(fields) => object_to_msgpack(fields)?,
    })
}

fn object_to_msgpack(fields: &Map<String, Value>) -> Result<rmpv::Value, CodecError> {
    if let Some(Value::String(text)) = fields.get(BYTES) {
        let bytes = BASE64_STANDARD.decode(text).map_err(CodecError::new)?;
        let kind = fields.get("$ext").and_then(Value::as_i64);
        return Ok(match kind.and_then(|kind| i8::try_from(kind).ok()) {
            Some(kind) => rmpv::Value::Ext(kind, bytes),
            None => rmpv::Value::Binary(bytes),
        });
    }
    let field = |(key, value): (&String, &Value)| Ok((key.as_str().into(), to_msgpack(value)?));
    let fields = fields
        .iter()
        .map(field)
        .collect::<Result<_, CodecError>>()?;
    Ok(rmpv::Value::Map(fields))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Payload {
        id: u64,
        low: i64,
        ratio: f64,
        name: Option<String>,
        bytes: bytes::Bytes,
        lines: BTreeMap<String, Vec<u8>>,
    }

    fn payload() -> Payload {
        Payload {
            id: u64::MAX,
            low: i64::MIN,
            ratio: 0.5,
            name: Some("größe".into()),
            bytes: bytes::Bytes::from_static(&[0, 255]),
            lines: BTreeMap::from([("a".into(), vec![1, 2])]),
        }
    }

    #[test]
    fn messagepack_is_shown_as_json_and_encoded_again_as_it_was() {
        let (viewer, codec) = (Viewer::default(), CodecName::of::<MessagePack>());
        let shown = viewer.show(&codec, &MessagePack::encode(&payload()).expect("encoded"));
        let expected = json!({"id": u64::MAX, "low": i64::MIN, "ratio": 0.5, "name": "größe",
            "bytes": {"$base64": "AP8="}, "lines": {"a": [1, 2]}});
        assert_eq!(shown, expected);
        let again = viewer.parse(&codec, &shown).expect("encoded");
        assert_eq!(
            MessagePack::decode::<Payload>(&again).expect("a payload"),
            payload()
        );
    }

    #[test]
    fn json_is_shown_as_it_is() {
        let (viewer, codec) = (Viewer::default(), CodecName::of::<Json>());
        let value = json!({"a": [1, null]});
        let bytes = viewer.parse(&codec, &value).expect("encoded");
        assert_eq!(viewer.show(&codec, &bytes), value);
    }

    #[test]
    fn what_cannot_be_read_is_shown_as_bytes_with_the_reason() {
        let viewer = Viewer::default();
        let shown = viewer.show(&CodecName::of::<MessagePack>(), b"\xa5a");
        assert_eq!(
            (&shown["$base64"], &shown["$codec"]),
            (&json!("pWE="), &json!("msgpack"))
        );
        let trailing = viewer.show(&CodecName::of::<MessagePack>(), b"\x01\x02");
        assert_eq!(trailing["$error"], "1 bytes follow the value");
        let nested = [b'\x91'; 200_000];
        let nested = viewer.show(&CodecName::of::<MessagePack>(), &nested);
        assert!(nested["$error"].is_string());
    }

    #[test]
    fn a_codec_of_ones_own_is_shown_once_it_is_added() {
        struct Pretty;
        impl Codec for Pretty {
            const NAME: &'static str = "pretty";
            fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
                serde_json::to_vec_pretty(value).map_err(CodecError::new)
            }
            fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
                serde_json::from_slice(bytes).map_err(CodecError::new)
            }
        }
        let (codec, bytes) = (CodecName::of::<Pretty>(), b"{\n  \"a\": 1\n}");
        let unknown = Viewer::default();
        assert!(
            unknown.show(&codec, bytes)["$error"]
                .as_str()
                .is_some_and(|e| e.contains("pretty"))
        );
        assert!(unknown.parse(&codec, &json!(1)).is_err());
        let viewer = Viewer::default().with_codec::<Pretty>();
        assert_eq!(viewer.show(&codec, bytes), json!({"a": 1}));
        assert_eq!(
            viewer.parse(&codec, &json!({"a": 1})).expect("encoded"),
            bytes
        );
    }
}
