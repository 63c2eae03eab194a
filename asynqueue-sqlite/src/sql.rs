//! Statements, run by rusqlite or by another driver, so that a change has one implementation for all of them.

use std::future::Future;

use asynqueue_core::{
    broker::BrokerError,
    task::{TaskId, Timestamp},
};
use futures_util::FutureExt;
use rusqlite::{Connection, ToSql, types::ToSqlOutput};

pub(crate) use rusqlite::types::{Value, ValueRef};

/// Runs statements within one transaction.
pub(crate) trait Sql {
    /// Runs a statement, and returns how many rows it changed.
    async fn run(&mut self, sql: &'static str, values: &[ValueRef<'_>]) -> Result<usize, Fault>;

    /// Runs a query, and returns its first row.
    async fn row(
        &mut self,
        sql: &'static str,
        values: &[ValueRef<'_>],
    ) -> Result<Option<Row>, Fault>;
}

/// The result of [`Sql`] on a connection that responds immediately.
pub(crate) fn ready<T>(call: impl Future<Output = T>) -> T {
    let result = call.now_or_never();
    result.expect("rusqlite does not wait for anything")
}

/// Why a statement failed.
#[derive(Debug)]
pub(crate) enum Fault {
    Sqlite(rusqlite::Error),
    #[cfg(feature = "sqlx")]
    Sqlx(sqlx::Error),
    /// The tables have something unexpected.
    Broker(BrokerError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Fault {
    pub(crate) fn unexpected(what: impl Into<String>) -> Self {
        Self::Broker(BrokerError::protocol(what))
    }
}

/// A connection of rusqlite. Its cache of statements must have room for all of them.
pub(crate) struct Direct<'c>(pub(crate) &'c Connection);

/// How many statements a connection keeps. There are fewer.
pub(crate) const STATEMENTS: usize = 160;

impl Sql for Direct<'_> {
    async fn run(&mut self, sql: &'static str, values: &[ValueRef<'_>]) -> Result<usize, Fault> {
        let mut statement = self.0.prepare_cached(sql)?;
        for (place, value) in values.iter().enumerate() {
            statement.raw_bind_parameter(place + 1, ToSqlOutput::Borrowed(*value))?;
        }
        Ok(statement.raw_execute()?)
    }

    async fn row(
        &mut self,
        sql: &'static str,
        values: &[ValueRef<'_>],
    ) -> Result<Option<Row>, Fault> {
        let mut statement = self.0.prepare_cached(sql)?;
        let columns = statement.column_count();
        for (place, value) in values.iter().enumerate() {
            statement.raw_bind_parameter(place + 1, ToSqlOutput::Borrowed(*value))?;
        }
        let mut rows = statement.raw_query();
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let values = (0..columns).map(|column| row.get::<_, Value>(column));
        Ok(Some(Row(values.collect::<Result<_, _>>()?)))
    }
}

/// The first row of a query.
pub(crate) struct Row(pub(crate) Vec<Value>);

impl Row {
    /// A column that is an integer; 0 if it is null.
    pub(crate) fn int(&self, column: usize) -> i64 {
        match self.0.get(column) {
            Some(Value::Integer(number)) => *number,
            _ => 0,
        }
    }

    pub(crate) fn is_null(&self, column: usize) -> bool {
        matches!(self.0.get(column), None | Some(Value::Null))
    }

    pub(crate) fn bytes(&self, column: usize) -> &[u8] {
        match self.0.get(column) {
            Some(Value::Blob(bytes)) => bytes,
            Some(Value::Text(text)) => text.as_bytes(),
            _ => &[],
        }
    }

    pub(crate) fn id(&self, column: usize) -> Result<TaskId, Fault> {
        let value = self.0.get(column).map(ValueRef::from);
        task_id(value.unwrap_or(ValueRef::Null))
    }
}

// Values of statements.

pub(crate) fn int(number: i64) -> ValueRef<'static> {
    ValueRef::Integer(number)
}

pub(crate) fn text(text: &str) -> ValueRef<'_> {
    ValueRef::Text(text.as_bytes())
}

pub(crate) fn time(time: Timestamp) -> ValueRef<'static> {
    ValueRef::Integer(millis(time))
}

/// A time as a column has it.
pub(crate) fn millis(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// The time of a column.
pub(crate) fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(millis).unwrap_or_default())
}

/// The id of a task as a column has it: 16 bytes for a generated one.
#[derive(Clone, Copy)]
pub(crate) enum Id<'a> {
    Number([u8; 16]),
    Text(&'a str),
}

impl<'a> Id<'a> {
    pub(crate) fn of(id: &'a TaskId) -> Self {
        id.to_u128().map_or_else(
            || Self::Text(id.as_str()),
            |number| Self::Number(number.to_be_bytes()),
        )
    }

    pub(crate) fn value(&self) -> ValueRef<'_> {
        match self {
            Self::Number(bytes) => ValueRef::Blob(bytes),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        }
    }
}

impl ToSql for Id<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.value()))
    }
}

/// The id in a column.
pub(crate) fn task_id(value: ValueRef<'_>) -> Result<TaskId, Fault> {
    match value {
        ValueRef::Blob(bytes) => bytes
            .try_into()
            .ok()
            .map(u128::from_be_bytes)
            .map(TaskId::from_u128),
        ValueRef::Text(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| TaskId::new(text).ok()),
        _ => None,
    }
    .ok_or_else(|| Fault::unexpected("a row has an invalid task id"))
}
