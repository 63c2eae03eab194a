//! The caller's own transactions with `sqlx`.

use asynqueue_core::{
    process::Context,
    producer::{EnqueueError, Prepared, TaskHandle},
    task::Task,
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{
    Column, Executor, Row as _, SqliteConnection, TypeInfo, ValueRef as _,
    sqlite::{SqliteArguments, SqliteRow},
};

use crate::{
    CompleteError, SqliteBroker,
    change::{Change, NewRow},
    sql::{Fault, Row, Sql, Value, ValueRef},
    transaction::broker_of,
};

/// A connection of sqlx.
pub(crate) struct Sqlx<'c>(pub(crate) &'c mut SqliteConnection);

impl Sqlx<'_> {
    /// The file of the connection.
    pub(crate) async fn file(&mut self) -> Result<String, Fault> {
        let main = "select file from pragma_database_list where name = 'main'";
        let main = self.row(main, &[]).await?;
        Ok(main.map_or_else(String::new, |row| {
            String::from_utf8_lossy(row.bytes(0)).into_owned()
        }))
    }
}

type Query = sqlx::query::Query<'static, sqlx::Sqlite, SqliteArguments>;

impl Sql for Sqlx<'_> {
    async fn run(&mut self, sql: &'static str, values: &[ValueRef<'_>]) -> Result<usize, Fault> {
        let done = self
            .0
            .execute(query(sql, values))
            .await
            .map_err(Fault::Sqlx)?;
        Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
    }

    async fn row(
        &mut self,
        sql: &'static str,
        values: &[ValueRef<'_>],
    ) -> Result<Option<Row>, Fault> {
        let found = self
            .0
            .fetch_optional(query(sql, values))
            .await
            .map_err(Fault::Sqlx)?;
        found.map(|row| read(&row)).transpose().map_err(Fault::Sqlx)
    }
}

fn query(sql: &'static str, values: &[ValueRef<'_>]) -> Query {
    let bind = |query: Query, value: &ValueRef<'_>| match value {
        ValueRef::Null => query.bind(None::<i64>),
        ValueRef::Integer(number) => query.bind(*number),
        ValueRef::Real(number) => query.bind(*number),
        ValueRef::Text(text) => query.bind(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => query.bind(bytes.to_vec()),
    };
    values.iter().fold(sqlx::query(sql), bind)
}

fn read(row: &SqliteRow) -> Result<Row, sqlx::Error> {
    let value = |column: usize| {
        let value = row.try_get_raw(column)?;
        Ok(match value.type_info().name() {
            _ if value.is_null() => Value::Null,
            "INTEGER" => Value::Integer(row.try_get_unchecked(column)?),
            "TEXT" => Value::Text(row.try_get_unchecked(column)?),
            "BLOB" => Value::Blob(row.try_get_unchecked(column)?),
            _ => Value::Real(row.try_get_unchecked(column)?),
        })
    };
    let values = row.columns().iter().map(|column| value(column.ordinal()));
    Ok(Row(values.collect::<Result<_, sqlx::Error>>()?))
}

impl SqliteBroker {
    /// Enqueues a task in a transaction of `sqlx`, on a connection of the caller to the same file: see
    /// [`enqueue_in`](Self::enqueue_in).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use asynqueue_core::producer::Producer;
    /// # use asynqueue_sqlite::{SqliteBroker, SqliteOptions};
    /// use sqlx::{Connection, SqliteConnection};
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "email:welcome", crate = asynqueue_core)]
    /// # struct WelcomeEmail { user_id: i64 }
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("shop.db");
    /// # let broker = SqliteBroker::connect(SqliteOptions::file(&path)).await?;
    /// # let producer = Producer::new(broker.clone());
    ///
    /// let mut shop = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await?;
    /// let mut tx = shop.begin_with("begin immediate").await?;
    /// let task = broker.enqueue_in_sqlx(&mut tx, producer.prepare(WelcomeEmail { user_id: 7 })?).await?;
    /// tx.commit().await?;
    /// println!("{}", task.status().await?.state_name());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`enqueue_in`](Self::enqueue_in).
    #[cfg_attr(docsrs, doc(cfg(feature = "sqlx")))]
    pub async fn enqueue_in_sqlx<T: Task>(
        &self,
        connection: &mut SqliteConnection,
        task: Prepared<T>,
    ) -> Result<TaskHandle<T>, EnqueueError> {
        self.link().open_or_closed()?;
        let row = NewRow::from(task.task().clone());
        let mut sql = Sqlx(connection);
        let file = sql.file().await.map_err(|fault| self.fault(fault))?;
        self.link().file.check_same(&file)?;
        let mut change = Change::new(sql, self.link().now());
        let response = change
            .enqueue_and_finish(&row)
            .await
            .map_err(|fault| self.fault(fault))?;
        self.watch(change)?;
        task.accepted(response)
    }
}

/// Completes a task in a transaction of `sqlx`, for [`Context`].
#[cfg_attr(docsrs, doc(cfg(feature = "sqlx")))]
pub trait CompleteInSqlx {
    /// Records that this attempt has completed with this output: see
    /// [`complete_in`](crate::CompleteIn::complete_in).
    ///
    /// # Errors
    ///
    /// As [`complete_in`](crate::CompleteIn::complete_in).
    fn complete_in_sqlx<O: Serialize + DeserializeOwned + Sync + 'static>(
        &self,
        connection: &mut SqliteConnection,
        output: &O,
    ) -> impl Future<Output = Result<(), CompleteError>> + Send;
}

impl CompleteInSqlx for Context {
    async fn complete_in_sqlx<O: Serialize + DeserializeOwned + Sync + 'static>(
        &self,
        connection: &mut SqliteConnection,
        output: &O,
    ) -> Result<(), CompleteError> {
        let settlement = self.completion(output)?;
        let broker = broker_of(self)?;
        let mut sql = Sqlx(connection);
        let file = sql.file().await.map_err(|fault| broker.fault(fault))?;
        broker.link().file.check_same(&file)?;
        let mut change = Change::new(sql, broker.link().now());
        let completed = change.complete_leased(&settlement).await;
        broker.completed(&file, settlement.token, completed)
    }
}
