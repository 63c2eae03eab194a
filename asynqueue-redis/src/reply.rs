//! Reads responses of scripts.

use asynqueue_core::{broker::BrokerError, task::Timestamp};
use redis::Value;

/// A response that differs from what the script returns.
pub(crate) fn unexpected(expected: &str, found: &Value) -> BrokerError {
    BrokerError::protocol(format!("expected {expected}, found {found:.200?}"))
}

pub(crate) fn array(value: Value) -> Result<Vec<Value>, BrokerError> {
    match value {
        Value::Array(values) => Ok(values),
        Value::Nil => Ok(Vec::new()),
        other => Err(unexpected("an array", &other)),
    }
}

/// Bytes, or `None`.
pub(crate) fn some_bytes(value: Value) -> Result<Option<Vec<u8>>, BrokerError> {
    match value {
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::SimpleString(text) => Ok(Some(text.into_bytes())),
        Value::Int(number) => Ok(Some(number.to_string().into_bytes())),
        Value::Nil => Ok(None),
        other => Err(unexpected("a string", &other)),
    }
}

pub(crate) fn bytes(value: Value) -> Result<Vec<u8>, BrokerError> {
    some_bytes(value)?.ok_or_else(|| unexpected("a string", &Value::Nil))
}

pub(crate) fn text(value: Value) -> Result<String, BrokerError> {
    String::from_utf8(bytes(value)?)
        .map_err(|error| BrokerError::protocol(format!("expected UTF-8: {error}")).caused_by(error))
}

pub(crate) fn number(value: Value) -> Result<u64, BrokerError> {
    match value {
        Value::Int(number) => Ok(number.try_into().unwrap_or(0)),
        other => {
            let text = text(other)?;
            text.parse()
                .map_err(|_| BrokerError::protocol(format!("expected a number, found `{text}`")))
        }
    }
}

/// A number; an empty string is `None`.
pub(crate) fn some_number(value: Value) -> Result<Option<u64>, BrokerError> {
    match value {
        Value::BulkString(text) if text.is_empty() => Ok(None),
        other => number(other).map(Some),
    }
}

/// A time as Redis stores it in a sorted set.
pub(crate) fn time(text: &str) -> Result<Timestamp, BrokerError> {
    let millis: f64 = text
        .parse()
        .map_err(|_| BrokerError::protocol(format!("expected a time, found `{text}`")))?;
    Ok(Timestamp::from_millis(millis as u64))
}

/// A time; an empty string is `None`.
pub(crate) fn some_time(value: Value) -> Result<Option<Timestamp>, BrokerError> {
    let text = text(value)?;
    (!text.is_empty()).then(|| time(&text)).transpose()
}

/// The next part of a response.
pub(crate) fn next(parts: &mut impl Iterator<Item = Value>) -> Result<Value, BrokerError> {
    parts
        .next()
        .ok_or_else(|| BrokerError::protocol("the response is shorter than expected"))
}
