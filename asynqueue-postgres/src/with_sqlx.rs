//! The caller's own transactions with `sqlx`.

use asynqueue_core::{
    process::Context,
    producer::{EnqueueError, Prepared, TaskHandle},
    task::Task,
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{
    AssertSqlSafe, PgConnection, Row as _,
    postgres::{PgArguments, PgRow},
};

use crate::{
    CompleteError, PostgresBroker,
    broker::Refused,
    failed::Error,
    sql::{Call, Value},
    transaction::{Caller, broker_of},
};

/// A connection of sqlx.
pub(crate) struct Sqlx<'c>(pub(crate) &'c mut PgConnection);

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, PgArguments>;

impl Caller for Sqlx<'_> {
    async fn refused(&mut self, sql: &str, call: &Call) -> Result<Vec<Refused>, Error> {
        let rows = query(sql, call).fetch_all(&mut *self.0).await?;
        rows.iter().map(refused).collect()
    }

    async fn row(&mut self, sql: &str, call: &Call) -> Result<Option<(i16, bool)>, Error> {
        let row = query(sql, call).fetch_optional(&mut *self.0).await?;
        let read = |row: PgRow| Ok((row.try_get(0)?, row.try_get(1)?));
        row.map(read).transpose()
    }

    async fn text(&mut self, sql: &str, call: &Call) -> Result<Option<String>, Error> {
        let row = query(sql, call).fetch_one(&mut *self.0).await?;
        Ok(row.try_get(0)?)
    }
}

fn refused(row: &PgRow) -> Result<Refused, Error> {
    Ok(Refused {
        number: row.try_get(0)?,
        why: row.try_get(1)?,
        state: row.try_get(2)?,
        holder: row.try_get(3)?,
        at: row.try_get::<Option<i64>, _>(4)?.unwrap_or_default(),
        head: row.try_get(5)?,
    })
}

/// The statement is one of this crate, for one schema.
fn query(sql: &str, call: &Call) -> Query<'static> {
    let bind = |query: Query<'static>, value: &Value| match value.clone() {
        Value::Short(value) => query.bind(value),
        Value::Int(value) => query.bind(value),
        Value::Long(value) => query.bind(value),
        Value::Flag(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Bytes(value) => query.bind(value),
        Value::Shorts(values) => query.bind(values),
        Value::Ints(values) => query.bind(values),
        Value::Longs(values) => query.bind(values),
        Value::Flags(values) => query.bind(values),
        Value::Texts(values) => query.bind(values),
        Value::Blobs(values) => query.bind(values),
    };
    let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
    call.values.iter().fold(query, bind)
}

impl PostgresBroker {
    /// Enqueues a task in a transaction of `sqlx`, on a connection of the caller to the same database: see
    /// [`enqueue_in`](Self::enqueue_in).
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # use asynqueue_core::producer::Producer;
    /// # use asynqueue_postgres::{PostgresBroker, PostgresOptions};
    /// use sqlx::{Connection, PgConnection};
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "email:welcome", crate = asynqueue_core)]
    /// # struct WelcomeEmail { user_id: i64 }
    /// # let broker = PostgresBroker::connect(PostgresOptions::new("postgres://shop@db/shop")?).await?;
    /// # let producer = Producer::new(broker.clone());
    ///
    /// let mut shop = PgConnection::connect("postgres://shop@db/shop").await?;
    /// let mut tx = shop.begin().await?;
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
        connection: &mut PgConnection,
        task: Prepared<T>,
    ) -> Result<TaskHandle<T>, EnqueueError> {
        let new = vec![task.task().clone()];
        let accepted = self.accept_in(&mut Sqlx(connection), new).await?;
        task.accepted(accepted.into_iter().next().unwrap_or(Ok(())))
    }

    /// Enqueues tasks in a transaction of `sqlx`: see [`enqueue_many_in`](Self::enqueue_many_in).
    ///
    /// # Errors
    ///
    /// As [`enqueue_many_in`](Self::enqueue_many_in).
    #[cfg_attr(docsrs, doc(cfg(feature = "sqlx")))]
    pub async fn enqueue_many_in_sqlx<T: Task>(
        &self,
        connection: &mut PgConnection,
        tasks: impl IntoIterator<Item = Prepared<T>>,
    ) -> Result<Vec<Result<TaskHandle<T>, EnqueueError>>, EnqueueError> {
        let tasks: Vec<_> = tasks.into_iter().collect();
        let new = tasks.iter().map(|task| task.task().clone()).collect();
        let accepted = self.accept_in(&mut Sqlx(connection), new).await?;
        let results = tasks.into_iter().zip(accepted);
        Ok(results
            .map(|(task, accepted)| task.accepted(accepted))
            .collect())
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
        connection: &mut PgConnection,
        output: &O,
    ) -> impl Future<Output = Result<(), CompleteError>> + Send;
}

impl CompleteInSqlx for Context {
    async fn complete_in_sqlx<O: Serialize + DeserializeOwned + Sync + 'static>(
        &self,
        connection: &mut PgConnection,
        output: &O,
    ) -> Result<(), CompleteError> {
        let settlement = self.completion(output)?;
        broker_of(self)?
            .complete(&mut Sqlx(connection), &settlement)
            .await
    }
}
