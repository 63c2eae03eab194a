//! Encodes JSON as MessagePack.
//!
//! Marked values are converted back to their original form.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rmpv::Value as Pack;
use serde_json::{Map, Value};

use super::{BINARY, EXTENSION, KEY_DEPTH};
use crate::{
    codec::{Codec, CodecError, MessagePack},
    inspector::view::is_within,
};

/// The error for a malformed marker.
#[derive(thiserror::Error)]
#[error("at `{}`: {reason}", if path.is_empty() { "/" } else { path })]
struct FormError {
    /// The place, as a JSON pointer.
    path: String,
    reason: String,
}

crate::debug_as_text!(FormError);

/// Encodes JSON as MessagePack.
pub(in crate::inspector) fn parse(json: &Value) -> Result<Vec<u8>, CodecError> {
    MessagePack::encode(&parse_value(json).map_err(CodecError::new)?)
}

fn parse_value(json: &Value) -> Result<Pack, FormError> {
    Ok(match json {
        Value::Null => Pack::Nil,
        Value::Bool(value) => Pack::Boolean(*value),
        Value::Number(number) => (number.as_u64().map(Pack::from))
            .or_else(|| number.as_i64().map(Pack::from))
            .or_else(|| number.as_f64().map(Pack::from))
            .ok_or_else(|| FormError::new(format!("the number {number} is too large")))?,
        Value::String(text) => text.as_str().into(),
        Value::Array(list) => {
            let items = list.iter().enumerate();
            items
                .map(|(index, item)| {
                    parse_value(item).map_err(|error| error.within(&index.to_string()))
                })
                .collect::<Result<Vec<_>, _>>()?
                .into()
        }
        Value::Object(map) => parse_map(map)?,
    })
}

fn parse_map(map: &Map<String, Value>) -> Result<Pack, FormError> {
    if let Some(marked) = map.get(BINARY) {
        let bytes = marked.as_str().and_then(|text| STANDARD.decode(text).ok());
        return match bytes {
            Some(bytes) if map.len() == 1 => Ok(Pack::Binary(bytes)),
            _ => Err(FormError::new(
                r#"expected `{"$binary": "…"}` with base64, and nothing else; write a key `$binary` as `$$binary`"#,
            )),
        };
    }
    if let Some(marked) = map.get(EXTENSION) {
        return parse_extension(marked).filter(|_| map.len() == 1).ok_or_else(|| {
            FormError::new(
                r#"expected `{"$ext": {"type": -1, "data": "…"}}` with a type from -128 to 127 and base64, and nothing else; write a key `$ext` as `$$ext`"#,
            )
        });
    }
    let parse_pair = |(key, value): (&String, &Value)| -> Result<_, FormError> {
        let name = parse_key(key)?;
        let value = parse_value(value).map_err(|error| error.within(key))?;
        Ok((name, value))
    };
    map.iter()
        .map(parse_pair)
        .collect::<Result<_, _>>()
        .map(Pack::Map)
}

fn parse_extension(marked: &Value) -> Option<Pack> {
    let kind = i8::try_from(marked.get("type")?.as_i64()?).ok()?;
    let data = STANDARD.decode(marked.get("data")?.as_str()?).ok()?;
    Some(Pack::Ext(kind, data))
}

fn parse_key(key: &str) -> Result<Pack, FormError> {
    let Some(marked) = key.strip_prefix('$') else {
        return Ok(key.into());
    };
    if marked.starts_with('$') {
        return Ok(marked.into());
    }
    serde_json::from_str(marked)
        .ok()
        // A marker in a key adds levels.
        .filter(|json| is_within(json, KEY_DEPTH + 2))
        .ok_or_else(|| {
            FormError::new(format!(
                "expected JSON after the `$` of key `{key}`; write a text key as `${key}`"
            ))
        })
        .and_then(|json| parse_value(&json))
}

impl FormError {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            path: String::new(),
            reason: reason.into(),
        }
    }

    /// The error as seen from the enclosing list or map.
    fn within(mut self, key: &str) -> Self {
        let key = key.replace('~', "~0").replace('/', "~1");
        self.path = format!("/{key}{}", self.path);
        self
    }
}
