//! Converts MessagePack to JSON.
//!
//! Values that JSON cannot represent are marked.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rmpv::Value as Pack;
use serde_json::{Map, Value, json};

use super::{BINARY, EXTENSION, KEY_DEPTH};
use crate::codec::CodecError;

/// The error for MessagePack that cannot be shown.
#[derive(thiserror::Error)]
enum ShowError {
    #[error("invalid MessagePack: {0}")]
    NotMessagePack(#[from] rmpv::decode::Error),
    #[error("{0} unexpected bytes after the value")]
    MoreBytes(usize),
    #[error("a map has key `{0}` twice")]
    Twice(String),
    #[error("a map key is nested too deeply: expected at most {KEY_DEPTH} levels")]
    DeepKey,
}

crate::debug_as_text!(ShowError);

/// The maximum nesting of lists and maps. Lower than the limit for parsing, because markers add levels.
const DEPTH: usize = 120;

/// The same limit as `rmpv` counts it: two for each list or map, and three for text or bytes in it.
const DEPTH_OF_READS: usize = 2 * DEPTH + 3;

/// Converts MessagePack to JSON.
pub(in crate::inspector) fn show(bytes: &[u8]) -> Result<Value, CodecError> {
    let decode = || -> Result<Value, ShowError> {
        let mut rest = bytes;
        let value = rmpv::decode::read_value_with_max_depth(&mut rest, DEPTH_OF_READS)?;
        match rest.len() {
            0 => show_value(value),
            more => Err(ShowError::MoreBytes(more)),
        }
    };
    decode().map_err(CodecError::new)
}

fn show_value(value: Pack) -> Result<Value, ShowError> {
    Ok(match value {
        Pack::Nil => Value::Null,
        Pack::Boolean(value) => value.into(),
        Pack::Integer(number) => match number.as_u64() {
            Some(number) => number.into(),
            None => number.as_i64().into(),
        },
        Pack::F32(number) => show_float(widen(number)),
        Pack::F64(number) => show_float(number),
        Pack::String(text) => show_bytes(text.into_bytes(), |_| true),
        Pack::Binary(bytes) => show_bytes(bytes, is_readable),
        Pack::Array(list) => list
            .into_iter()
            .map(show_value)
            .collect::<Result<Vec<_>, _>>()?
            .into(),
        Pack::Map(pairs) => show_map(pairs)?.into(),
        Pack::Ext(kind, data) => {
            json!({ EXTENSION: { "type": kind, "data": STANDARD.encode(data) } })
        }
    })
}

fn show_map(pairs: Vec<(Pack, Pack)>) -> Result<Map<String, Value>, ShowError> {
    let mut map = Map::with_capacity(pairs.len());
    for (key, value) in pairs {
        let key = show_key(key)?;
        if map.contains_key(&key) {
            return Err(ShowError::Twice(key));
        }
        map.insert(key, show_value(value)?);
    }
    Ok(map)
}

fn show_key(key: Pack) -> Result<String, ShowError> {
    if !is_flat(&key, KEY_DEPTH) {
        return Err(ShowError::DeepKey);
    }
    Ok(match show_value(key)? {
        Value::String(key) if key.starts_with('$') => format!("${key}"),
        Value::String(key) => key,
        key => format!("${key}"),
    })
}

/// Whether a key has at most this many levels.
fn is_flat(key: &Pack, levels: usize) -> bool {
    let fits = |inner: &Pack| levels > 0 && is_flat(inner, levels - 1);
    match key {
        Pack::Array(list) => levels > 0 && list.iter().all(fits),
        Pack::Map(pairs) => levels > 0 && pairs.iter().all(|(key, value)| fits(key) && fits(value)),
        _ => true,
    }
}

fn show_bytes(bytes: Vec<u8>, as_text: impl Fn(&str) -> bool) -> Value {
    match str::from_utf8(&bytes) {
        Ok(text) if as_text(text) => text.into(),
        _ => json!({ BINARY: STANDARD.encode(bytes) }),
    }
}

/// Whether bytes that are valid UTF-8 are meant as text: small numbers are UTF-8 too.
fn is_readable(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_control() && !"\n\r\t".contains(c))
}

fn show_float(number: f64) -> Value {
    if number.is_finite() {
        number.into()
    } else if number.is_nan() {
        "NaN".into()
    } else if number > 0.0 {
        "Infinity".into()
    } else {
        "-Infinity".into()
    }
}

/// The float with the fewest digits that rounds to `number`: 0.1 instead of 0.10000000149011612.
fn widen(number: f32) -> f64 {
    let short = number.to_string().parse::<f64>();
    short
        .ok()
        .filter(|short| *short as f32 == number)
        .unwrap_or(number.into())
}
