//! The caller's own transactions: tasks that exist if and only if they are committed, and outcomes that are recorded
//! together with what a handler has written.

use asynqueue_core::{
    broker::{
        BrokerError, Conflict, Lease, NewTask, Outcome, Settlement,
        kit::{Announced, promised},
    },
    process::{CompletionError, Context},
    producer::{EnqueueError, Prepared, TaskHandle},
    task::Task,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio_postgres::Transaction;

use crate::{
    PostgresBroker,
    broker::{Batch, Refused, kept},
    failed::{Error, Failed, code, reason},
    link::{Event, Watched},
    schema::identity,
    sql::{
        Call, Value,
        values::{duration, id_bytes, long, text},
    },
};

/// Runs statements in a transaction of a caller.
pub(crate) trait Caller: Send {
    fn refused(
        &mut self,
        sql: &str,
        call: &Call,
    ) -> impl Future<Output = Result<Vec<Refused>, Error>> + Send;

    /// The first row of a query: a number and a text.
    fn row(
        &mut self,
        sql: &str,
        call: &Call,
    ) -> impl Future<Output = Result<Option<(i16, bool)>, Error>> + Send;

    /// The first value of a query: a text, or null.
    fn text(
        &mut self,
        sql: &str,
        call: &Call,
    ) -> impl Future<Output = Result<Option<String>, Error>> + Send;
}

/// The number of the transaction, if it is on these tables. Another database may have some of the same name, or a
/// copy of them.
const NUMBER: &str = concat!(
    "select case ",
    identity!(),
    " when $1 then pg_current_xact_id()::text end from asynqueue.meta"
);

/// A copy of the tables has a copy of the lease, too. Without its token, nothing is completed.
const COMPLETE: &str = concat!(
    "select outcome, awaited from asynqueue.complete($1, $2, (select case ",
    identity!(),
    " when $9 then $3 end from asynqueue.meta), $4, $5, $6, $7, $8)"
);

/// A transaction of tokio-postgres.
pub(crate) struct Tokio<'t, 'c>(pub(crate) &'t Transaction<'c>);

impl Caller for Tokio<'_, '_> {
    async fn refused(&mut self, sql: &str, call: &Call) -> Result<Vec<Refused>, Error> {
        let rows = self.0.query_typed(sql, &call.typed()).await?;
        Ok(rows.iter().map(Refused::of).collect())
    }

    async fn row(&mut self, sql: &str, call: &Call) -> Result<Option<(i16, bool)>, Error> {
        let row = self.0.query_typed_opt(sql, &call.typed()).await?;
        Ok(row.map(|row| (row.get(0), row.get(1))))
    }

    async fn text(&mut self, sql: &str, call: &Call) -> Result<Option<String>, Error> {
        Ok(self.0.query_typed_one(sql, &call.typed()).await?.get(0))
    }
}

impl PostgresBroker {
    /// Enqueues a task in a transaction of the caller, on the caller's connection to the same database. The task exists
    /// if and only if the transaction is committed. A waiting server starts it within a few milliseconds after that.
    ///
    /// The task may wait in a group, or have a unique lock: until the end of the transaction, others that join the group
    /// or want the lock wait for it.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynqueue_core::producer::Producer;
    /// use asynqueue_postgres::{PostgresBroker, PostgresOptions};
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "email:welcome", crate = asynqueue_core)]
    /// # struct WelcomeEmail { user_id: i64 }
    ///
    /// let broker = PostgresBroker::connect(PostgresOptions::new("postgres://shop@db/shop")?).await?;
    /// let producer = Producer::new(broker.clone());
    ///
    /// let (mut shop, connection) = tokio_postgres::connect("postgres://shop@db/shop", tokio_postgres::NoTls).await?;
    /// tokio::spawn(connection);
    /// let tx = shop.transaction().await?;
    /// let row = tx.query_one("insert into users (name) values ('Ada') returning id", &[]).await?;
    /// let task = broker.enqueue_in(&tx, producer.prepare(WelcomeEmail { user_id: row.get(0) })?).await?;
    /// tx.commit().await?;
    /// println!("{}", task.status().await?.state_name());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`EnqueueError::Conflict`] if the task was refused; the transaction is as it was before. Otherwise when a
    /// statement fails, or when the transaction is on another database; roll it back then. A `repeatable read` or
    /// `serializable` transaction fails if it started before its queue existed; run it again then, as after any
    /// serialization failure.
    pub async fn enqueue_in<T: Task>(
        &self,
        transaction: &Transaction<'_>,
        task: Prepared<T>,
    ) -> Result<TaskHandle<T>, EnqueueError> {
        let accepted = self
            .accept_in(&mut Tokio(transaction), vec![task.task().clone()])
            .await?;
        task.accepted(accepted.into_iter().next().unwrap_or(Ok(())))
    }

    /// Enqueues tasks in a transaction of the caller: see [`enqueue_in`](Self::enqueue_in). The results are in the order
    /// of the tasks. A task that is refused does not prevent the others.
    ///
    /// # Errors
    ///
    /// When a statement fails, or when the transaction is on another database; roll it back then.
    pub async fn enqueue_many_in<T: Task>(
        &self,
        transaction: &Transaction<'_>,
        tasks: impl IntoIterator<Item = Prepared<T>>,
    ) -> Result<Vec<Result<TaskHandle<T>, EnqueueError>>, EnqueueError> {
        let tasks: Vec<_> = tasks.into_iter().collect();
        let new = tasks.iter().map(|task| task.task().clone()).collect();
        let accepted = self.accept_in(&mut Tokio(transaction), new).await?;
        let results = tasks.into_iter().zip(accepted);
        Ok(results
            .map(|(task, accepted)| task.accepted(accepted))
            .collect())
    }

    pub(crate) async fn accept_in(
        &self,
        caller: &mut impl Caller,
        tasks: Vec<NewTask>,
    ) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        self.link().open_or_closed()?;
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        // Before anything is written.
        let number = self.number(caller).await?;
        self.create_queues(&tasks).await;
        let mut tasks = Batch::with_passed_times(tasks, self.link().now());
        let mut results = Vec::with_capacity(tasks.len());
        let mut events = Vec::new();
        while !tasks.is_empty() {
            let rest = tasks.split_off(Batch::length(&tasks));
            let batch = Batch::new(tasks);
            let call = batch.call(self.link().fixed()).in_transaction();
            call.check()?;
            let sql = self.link().schema.apply(call.sql);
            let refused = caller.refused(&sql, &call).await;
            let refused = refused.map_err(|error| self.failed(error))?;
            let (accepted, announced) = batch.results(refused.into_iter())?;
            results.extend(accepted);
            events.extend(announced);
            self.note_tally();
            tasks = rest;
        }
        self.link().watch(Watched::new(number, events));
        Ok(results)
    }

    /// The number of the transaction, which is on the tables of this broker.
    async fn number(&self, caller: &mut impl Caller) -> Result<String, Failed> {
        let known = self.identity();
        if let Some(number) = self.number_in(caller, &known).await? {
            return Ok(number);
        }
        // The database may have been replaced by a copy, to which the broker has connected again.
        if let Ok(found) = self.renewed_identity().await
            && found != known
            && let Some(number) = self.number_in(caller, &found).await?
        {
            return Ok(number);
        }
        Err(Failed::Elsewhere(self.elsewhere()))
    }

    async fn number_in(
        &self,
        caller: &mut impl Caller,
        identity: &str,
    ) -> Result<Option<String>, Failed> {
        let call = Call::new(NUMBER, [text(identity)]);
        let sql = self.link().schema.apply(call.sql);
        let number = caller.text(&sql, &call).await;
        number.map_err(|error| self.failed(error))
    }

    fn elsewhere(&self) -> BrokerError {
        BrokerError::unsupported(format!(
            "a transaction on another database: the tasks are in {}; roll back, and use a connection to that database",
            self.place()
        ))
    }

    fn failed(&self, error: Error) -> Failed {
        match code(error.as_ref()).as_deref() {
            // No such table, schema or function.
            Some("42P01" | "3F000" | "42883") => Failed::Elsewhere(self.elsewhere()),
            _ => Failed::Statement(error),
        }
    }

    /// Completes a task in a transaction of its handler.
    pub(crate) async fn complete(
        &self,
        caller: &mut impl Caller,
        settlement: &Settlement,
    ) -> Result<(), CompleteError> {
        let task = &settlement.envelope;
        let awaited = loop {
            let identity = self.identity();
            let call = self.completion_of(settlement, &identity);
            let sql = self.link().schema.apply(call.sql);
            let completed = caller.row(&sql, &call).await;
            let completed = completed.map_err(|error| self.failed(error))?;
            if let Some((1 | 2, awaited)) = completed {
                break awaited;
            }
            self.number(caller).await?;
            if identity == self.identity() {
                return Err(CompleteError::LeaseLost);
            }
        };
        promised::add(Lease {
            task: task.task_ref(),
            token: settlement.token,
        });
        if awaited {
            let number = self.number(caller).await?;
            // The transaction may be committed without this part of it, if the caller returns to a savepoint.
            let ended = Announced::MayHaveEnded(task.task_ref());
            let events = vec![Event::Now(ended)];
            self.link().watch(Watched::new(number, events));
        }
        Ok(())
    }

    fn completion_of(&self, settlement: &Settlement, identity: &str) -> Call {
        let task = &settlement.envelope;
        let result = match &settlement.outcome {
            Outcome::Complete { result } => result.as_ref(),
            _ => None,
        };
        let retention = task.options.retention;
        let kept = kept(&settlement.leased, task);
        let values = [
            text(&task.queue),
            Value::Bytes(Some(id_bytes(&task.id))),
            long(settlement.token.0 as i64),
            Value::Long((!retention.is_zero()).then(|| duration(retention))),
            Value::Bytes(kept.changes),
            Value::Bytes(kept.envelope),
            Value::Bytes(result.map(|result| result.to_vec())),
            self.link().fixed(),
            text(identity),
        ];
        Call::new(COMPLETE, values)
    }
}

/// Completes a task in a transaction of its handler, for [`Context`].
pub trait CompleteIn {
    /// Records that this attempt has completed with this output, in a transaction of the handler. What the handler has
    /// written and the outcome are committed together, and only while the lease of the task is current. The handler
    /// commits, and then returns the same output. An error that it returns after the commit has no effect on the task:
    /// the server logs it and counts a success. If it returns `Ok` without a commit, the attempt has failed. A second call does nothing.
    ///
    /// The connection is one of the application to the database of the broker.
    ///
    /// ```
    /// use asynqueue_core::process::{Context, Payload, State, TaskError};
    /// use asynqueue_postgres::CompleteIn;
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "account:credit", crate = asynqueue_core)]
    /// # struct Credit { account: i64, cents: i64 }
    /// # #[derive(Clone)] struct Bank { url: String }
    ///
    /// async fn credit(State(bank): State<Bank>, task: Payload<Credit>, ctx: Context) -> Result<(), TaskError> {
    ///     let connecting = tokio_postgres::connect(&bank.url, tokio_postgres::NoTls);
    ///     let (mut db, connection) = connecting.await.map_err(TaskError::retry)?;
    ///     tokio::spawn(connection);
    ///     let tx = db.transaction().await.map_err(TaskError::retry)?;
    ///     tx.execute("update account set cents = cents + $1 where id = $2", &[&task.cents, &task.account])
    ///         .await
    ///         .map_err(TaskError::retry)?;
    ///     ctx.complete_in(&tx, &()).await.map_err(TaskError::retry)?;
    ///     tx.commit().await.map_err(TaskError::retry)
    /// }
    /// # let _ = asynqueue_core::registry::ProcessWrapper::new(credit);
    /// ```
    ///
    /// # Errors
    ///
    /// [`CompleteError::LeaseLost`] if another server may run the task: roll back. Otherwise if the output cannot be
    /// stored, the transaction is on another database, or a statement fails.
    fn complete_in<O: Serialize + DeserializeOwned + Sync + 'static>(
        &self,
        transaction: &Transaction<'_>,
        output: &O,
    ) -> impl Future<Output = Result<(), CompleteError>> + Send;
}

impl CompleteIn for Context {
    async fn complete_in<O: Serialize + DeserializeOwned + Sync + 'static>(
        &self,
        transaction: &Transaction<'_>,
        output: &O,
    ) -> Result<(), CompleteError> {
        let settlement = self.completion(output)?;
        broker_of(self)?
            .complete(&mut Tokio(transaction), &settlement)
            .await
    }
}

/// The broker that the task of an attempt was leased from.
pub(crate) fn broker_of(context: &Context) -> Result<&PostgresBroker, CompleteError> {
    let store = context.broker().as_store();
    store.downcast_ref().ok_or(CompleteError::OtherBroker)
}

/// The outcome of a task was not recorded in a transaction. Roll it back.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CompleteError {
    /// The lease of the task is no longer current. Another server may run it.
    #[error("the lease of the task is lost: roll back, because another server may run the task")]
    LeaseLost,
    /// The attempt has no outcome that can be recorded.
    #[error(transparent)]
    Completion(#[from] CompletionError),
    /// The task is in another kind of broker.
    #[error(
        "the task is not in PostgreSQL, and a transaction there cannot complete it: return the outcome from the handler"
    )]
    OtherBroker,
    /// The transaction is on another database.
    #[error(transparent)]
    Broker(BrokerError),
    /// A statement failed.
    #[error(
        "cannot record the outcome: {problem}: roll back the transaction",
        problem = reason(.0.as_ref())
    )]
    Statement(#[source] Box<dyn std::error::Error + Send + Sync>),
}

asynqueue_core::debug_as_text!(CompleteError);
