//! Statements with their values, to be run by `tokio-postgres` or by another driver.

use std::time::Duration;

use asynqueue_core::{
    broker::BrokerError,
    task::{TaskId, Timestamp},
};
use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// A statement. Its values have types, so that it needs no preparation, which not every pooler supports.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) sql: &'static str,
    pub(crate) values: Vec<Value>,
}

impl Call {
    pub(crate) fn new(sql: &'static str, values: impl Into<Vec<Value>>) -> Self {
        Self {
            sql,
            values: values.into(),
        }
    }

    /// A call in a transaction with others, which is not made again by itself: it has no lane.
    pub(crate) fn in_transaction(mut self) -> Self {
        self.values
            .extend([Value::Text(None), long(0), Value::Flag(false)]);
        self
    }

    /// Refuses texts that PostgreSQL cannot store. Its own error does not show which one it is, and aborts the transaction.
    pub(crate) fn check(&self) -> Result<(), BrokerError> {
        let texts = self.values.iter().flat_map(|value| match value {
            Value::Text(text) => std::slice::from_ref(text),
            Value::Texts(Some(texts)) => texts,
            _ => &[],
        });
        match texts.flatten().find(|text| text.contains('\0')) {
            None => Ok(()),
            Some(text) => {
                let shown: String = text.escape_debug().take(LONGEST_SHOWN).collect();
                Err(BrokerError::unsupported(format!(
                    "`{shown}` has the character U+0000, which PostgreSQL cannot store in a text: remove it"
                )))
            }
        }
    }

    pub(crate) fn typed(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        let values = self.values.iter();
        values
            .map(|value| (value as &(dyn ToSql + Sync), value.kind()))
            .collect()
    }
}

/// How much of a text an error shows, in characters.
const LONGEST_SHOWN: usize = 100;

/// A value of a statement. An element of a list may be null.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Short(i16),
    Int(i32),
    Long(Option<i64>),
    Flag(bool),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    Shorts(Option<Vec<Option<i16>>>),
    Ints(Option<Vec<Option<i32>>>),
    Longs(Option<Vec<Option<i64>>>),
    Flags(Vec<bool>),
    Texts(Option<Vec<Option<String>>>),
    Blobs(Option<Vec<Option<Vec<u8>>>>),
}

impl Value {
    fn kind(&self) -> Type {
        match self {
            Self::Short(_) => Type::INT2,
            Self::Int(_) => Type::INT4,
            Self::Long(_) => Type::INT8,
            Self::Flag(_) => Type::BOOL,
            Self::Text(_) => Type::TEXT,
            Self::Bytes(_) => Type::BYTEA,
            Self::Shorts(_) => Type::INT2_ARRAY,
            Self::Ints(_) => Type::INT4_ARRAY,
            Self::Longs(_) => Type::INT8_ARRAY,
            Self::Flags(_) => Type::BOOL_ARRAY,
            Self::Texts(_) => Type::TEXT_ARRAY,
            Self::Blobs(_) => Type::BYTEA_ARRAY,
        }
    }
}

impl ToSql for Value {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Short(value) => value.to_sql(ty, out),
            Self::Int(value) => value.to_sql(ty, out),
            Self::Long(value) => value.to_sql(ty, out),
            Self::Flag(value) => value.to_sql(ty, out),
            Self::Text(value) => value.to_sql(ty, out),
            Self::Bytes(value) => value.to_sql(ty, out),
            Self::Shorts(values) => values.to_sql(ty, out),
            Self::Ints(values) => values.to_sql(ty, out),
            Self::Longs(values) => values.to_sql(ty, out),
            Self::Flags(values) => values.to_sql(ty, out),
            Self::Texts(values) => values.to_sql(ty, out),
            Self::Blobs(values) => values.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

pub(crate) fn int(number: usize) -> Value {
    Value::Int(i32::try_from(number).unwrap_or(i32::MAX))
}

pub(crate) fn long(number: i64) -> Value {
    Value::Long(Some(number))
}

pub(crate) fn text(text: &str) -> Value {
    Value::Text(Some(text.to_owned()))
}

pub(crate) fn texts<T: ToString>(texts: impl IntoIterator<Item = T>) -> Value {
    let owned = |text: T| Some(text.to_string());
    Value::Texts(Some(texts.into_iter().map(owned).collect()))
}

pub(crate) fn ints(numbers: impl IntoIterator<Item = usize>) -> Value {
    let int = |number| Some(i32::try_from(number).unwrap_or(i32::MAX));
    Value::Ints(Some(numbers.into_iter().map(int).collect()))
}

pub(crate) fn longs(numbers: impl IntoIterator<Item = i64>) -> Value {
    Value::Longs(Some(numbers.into_iter().map(Some).collect()))
}

pub(crate) fn shorts(numbers: impl IntoIterator<Item = i16>) -> Value {
    Value::Shorts(Some(numbers.into_iter().map(Some).collect()))
}

pub(crate) fn blobs(blobs: impl IntoIterator<Item = Vec<u8>>) -> Value {
    Value::Blobs(Some(blobs.into_iter().map(Some).collect()))
}

/// A list in which elements may be missing. Null if all of them are.
pub(crate) fn any<T>(values: Vec<Option<T>>) -> Option<Vec<Option<T>>> {
    values.iter().any(Option::is_some).then_some(values)
}

/// The latest time and the longest duration of a column. Their sum is a number too.
const MOST: u128 = (i64::MAX / 4) as u128;

/// A duration in milliseconds, rounded up, as a column has it.
pub(crate) fn duration(duration: Duration) -> i64 {
    duration.as_nanos().div_ceil(1_000_000).min(MOST) as i64
}

/// A time as a column has it.
pub(crate) fn time(time: Timestamp) -> i64 {
    u128::from(time.as_millis()).min(MOST) as i64
}

/// The time of a column.
pub(crate) fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(millis).unwrap_or_default())
}

/// Tasks with a high priority sort first.
pub(crate) fn rank(priority: u8) -> i16 {
    -i16::from(priority)
}

/// A byte that no text has.
const END: u8 = 0xff;

/// A task id as a column has it: 16 bytes for a generated one. Another id is its text, which ends with a byte that no
/// text has, or with two if it had 16 bytes otherwise.
pub(crate) fn id_bytes(id: &TaskId) -> Vec<u8> {
    if let Some(number) = id.to_u128() {
        return number.to_be_bytes().to_vec();
    }
    let mut bytes = id.as_str().as_bytes().to_vec();
    bytes.push(END);
    if bytes.len() == 16 {
        bytes.push(END);
    }
    bytes
}

/// The id in a column.
pub(crate) fn task_id(bytes: &[u8]) -> Result<TaskId, BrokerError> {
    if let Ok(number) = bytes.try_into() {
        return Ok(TaskId::from_u128(u128::from_be_bytes(number)));
    }
    let length = bytes.iter().position(|byte| *byte == END);
    let id = length
        .and_then(|length| std::str::from_utf8(&bytes[..length]).ok())
        .and_then(|text| TaskId::new(text).ok());
    id.ok_or_else(|| BrokerError::protocol("a row has an invalid task id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_keeps_its_kind_and_text() {
        let generated = TaskId::generate();
        let named = ["a", "fifteen-letters", "sixteen-letters-", "order-ü"];
        let named = named.map(|id| TaskId::new(id).expect("an id"));
        for id in named.iter().chain([&generated]) {
            let bytes = id_bytes(id);
            assert_eq!(bytes.len() == 16, id == &generated, "{id}");
            assert_eq!(task_id(&bytes).expect("an id"), *id);
        }
    }
}
