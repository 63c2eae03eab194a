//! The caller's own transactions: tasks that exist if and only if they are committed, and outcomes that are recorded
//! together with what a handler has written.

use asynqueue_core::{
    broker::{BrokerError, Conflict, Counted, Lease, Outcome, Settlement, kit::promised},
    process::{CompletionError, Context},
    producer::{EnqueueError, Prepared, TaskHandle},
    task::{Task, TaskState},
};
use rusqlite::Transaction;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    SqliteBroker,
    change::{Change, NewRow},
    link::Watched,
    sql::{Direct, Fault, Id, Sql, int, ready, time},
};

impl SqliteBroker {
    /// Enqueues a task in a transaction of the caller, on the caller's connection to the same file. The task exists if
    /// and only if the transaction is committed. A waiting server starts it within a few milliseconds after that.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynqueue_core::producer::Producer;
    /// use asynqueue_sqlite::{SqliteBroker, SqliteOptions};
    /// use rusqlite::{Connection, TransactionBehavior};
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "email:welcome", crate = asynqueue_core)]
    /// # struct WelcomeEmail { user_id: i64 }
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("shop.db");
    ///
    /// let broker = SqliteBroker::connect(SqliteOptions::file(&path)).await?;
    /// let producer = Producer::new(broker.clone());
    ///
    /// let mut shop = Connection::open(&path)?;
    /// shop.execute_batch("create table user (id integer primary key, name text)")?;
    /// let tx = shop.transaction_with_behavior(TransactionBehavior::Immediate)?;
    /// tx.execute("insert into user (name) values ('Ada')", [])?;
    /// let user_id = tx.last_insert_rowid();
    /// let task = broker.enqueue_in(&tx, producer.prepare(WelcomeEmail { user_id })?)?;
    /// tx.commit()?;
    /// println!("{}", task.status().await?.state_name());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`EnqueueError::Conflict`] if the task was refused; the transaction is as it was before. Otherwise when a
    /// statement fails, or when the connection is to another file; roll the transaction back then.
    pub fn enqueue_in<T: Task>(
        &self,
        transaction: &Transaction<'_>,
        task: Prepared<T>,
    ) -> Result<TaskHandle<T>, EnqueueError> {
        let row = NewRow::from(task.task().clone());
        let mut change = self.change_in(transaction)?;
        let response = ready(change.enqueue_and_finish(&row)).map_err(|fault| self.fault(fault))?;
        self.watch(change)?;
        task.accepted(response)
    }

    /// Enqueues tasks in a transaction of the caller: see [`enqueue_in`](Self::enqueue_in). The results are in the order
    /// of the tasks. A task that is refused does not prevent the others.
    ///
    /// # Errors
    ///
    /// When a statement fails, or when the connection is to another file; roll the transaction back then.
    pub fn enqueue_many_in<T: Task>(
        &self,
        transaction: &Transaction<'_>,
        tasks: impl IntoIterator<Item = Prepared<T>>,
    ) -> Result<Vec<Result<TaskHandle<T>, EnqueueError>>, EnqueueError> {
        let mut change = self.change_in(transaction)?;
        let mut results = Vec::new();
        for task in tasks {
            let row = NewRow::from(task.task().clone());
            let response = ready(change.enqueue(&row)).map_err(|fault| self.fault(fault))?;
            results.push(task.accepted(response));
        }
        // The number by which the commit is noticed.
        ready(change.number()).map_err(|fault| self.fault(fault))?;
        ready(change.finish()).map_err(|fault| self.fault(fault))?;
        self.watch(change)?;
        Ok(results)
    }

    fn change_in<'c>(
        &self,
        transaction: &'c Transaction<'_>,
    ) -> Result<Change<Direct<'c>>, BrokerError> {
        self.link().open_or_closed()?;
        let link = self.link();
        link.file
            .check_same(transaction.path().unwrap_or_default())?;
        Ok(Change::new(Direct(transaction), link.now()))
    }

    /// Notes that a handler has completed a task in a transaction, if its lease is current.
    pub(crate) fn completed(
        &self,
        settlement: &Settlement,
        completed: Result<bool, Fault>,
    ) -> Result<(), CompleteError> {
        if !completed.map_err(|fault| self.fault(fault))? {
            return Err(CompleteError::LeaseLost);
        }
        promised::add(Lease {
            task: settlement.envelope.task_ref(),
            token: settlement.token,
        });
        Ok(())
    }

    pub(crate) fn fault(&self, fault: Fault) -> BrokerError {
        self.link().file.broker_error(fault)
    }

    /// Announces a change once it is committed.
    pub(crate) fn watch<S: Sql>(&self, change: Change<S>) -> Result<(), BrokerError> {
        let Some(number) = change.last_number() else {
            return Ok(());
        };
        self.link().watch(Watched::new(number, change.events))
    }
}

impl<S: Sql> Change<S> {
    pub(crate) async fn enqueue_and_finish(
        &mut self,
        row: &NewRow,
    ) -> Result<Result<(), Conflict>, Fault> {
        let response = self.enqueue(row).await?;
        if response.is_ok() {
            // The number by which the commit is noticed.
            self.number().await?;
        }
        self.finish().await?;
        Ok(response)
    }

    /// Completes a task in a transaction of its handler. Returns whether its lease is current.
    pub(crate) async fn complete_leased(&mut self, settlement: &Settlement) -> Result<bool, Fault> {
        let (task, token) = (&settlement.envelope, settlement.token.0 as i64);
        let Some(queue) = self.known(&task.queue).await? else {
            return Ok(false);
        };
        let (row, id) = (int(self.queues[queue].id), Id::of(&task.id));
        let end = "delete from asynqueue_lease where queue = ?1 and id = ?2 and token = ?3";
        if self.sql.run(end, &[row, id.value(), int(token)]).await? == 0 {
            // Called a second time.
            return self.is_settled(settlement.token).await;
        }
        let running = "delete from asynqueue_running where queue = ?1 and id = ?2";
        self.sql.run(running, &[row, id.value()]).await?;
        let now = self.now;
        self.queues[queue].add(TaskState::Active, -1);
        self.queues[queue].count_attempt(now, Counted::Succeeded);
        let result = match &settlement.outcome {
            Outcome::Complete { result } => result.as_ref(),
            _ => None,
        };
        self.complete(queue, &settlement.leased, task, result)
            .await?;
        let settled = "insert into asynqueue_settled values (?1, ?2)";
        self.sql.run(settled, &[int(token), time(now)]).await?;
        self.finish().await?;
        Ok(true)
    }
}

/// Completes a task in a transaction of its handler, for [`Context`].
pub trait CompleteIn {
    /// Records that this attempt has completed with this output, in a transaction of the handler. What the handler has
    /// written and the outcome are committed together, and only while the lease of the task is current. The handler
    /// commits, and then returns the same output. An error that it returns after the commit has no effect on the task:
    /// the server logs it and counts a success. If it returns `Ok` without a commit, the attempt has failed. A second call does nothing.
    ///
    /// The connection is one of the application to the file of the broker. The transaction should start as
    /// [`Immediate`](rusqlite::TransactionBehavior::Immediate).
    ///
    /// ```
    /// use asynqueue_core::process::{Context, Payload, State, TaskError};
    /// use asynqueue_sqlite::CompleteIn;
    /// use rusqlite::{Connection, TransactionBehavior};
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "account:credit", crate = asynqueue_core)]
    /// # struct Credit { account: i64, cents: i64 }
    /// # #[derive(Clone)] struct Bank(std::path::PathBuf);
    ///
    /// async fn credit(State(bank): State<Bank>, task: Payload<Credit>, ctx: Context) -> Result<(), TaskError> {
    ///     let mut db = Connection::open(&bank.0).map_err(TaskError::retry)?;
    ///     let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(TaskError::retry)?;
    ///     tx.execute("update account set cents = cents + ?1 where id = ?2", (task.cents, task.account))
    ///         .map_err(TaskError::retry)?;
    ///     ctx.complete_in(&tx, &()).map_err(TaskError::retry)?;
    ///     tx.commit().map_err(TaskError::retry)
    /// }
    /// # let _ = asynqueue_core::registry::ProcessWrapper::new(credit);
    /// ```
    ///
    /// # Errors
    ///
    /// [`CompleteError::LeaseLost`] if another server may run the task: roll back. Otherwise if the output cannot be
    /// stored, a statement fails, the connection is to another file, or the task is not in a SQLite file.
    fn complete_in<O: Serialize + DeserializeOwned + 'static>(
        &self,
        transaction: &Transaction<'_>,
        output: &O,
    ) -> Result<(), CompleteError>;
}

impl CompleteIn for Context {
    fn complete_in<O: Serialize + DeserializeOwned + 'static>(
        &self,
        transaction: &Transaction<'_>,
        output: &O,
    ) -> Result<(), CompleteError> {
        let settlement = self.completion(output)?;
        let broker = broker_of(self)?;
        let file = transaction.path().unwrap_or_default();
        broker.link().file.check_same(file)?;
        let mut change = Change::new(Direct(transaction), broker.link().now());
        let completed = ready(change.complete_leased(&settlement));
        broker.completed(&settlement, completed)
    }
}

/// The broker that the task of an attempt was leased from.
pub(crate) fn broker_of(context: &Context) -> Result<&SqliteBroker, CompleteError> {
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
        "the task is not in a SQLite database, and a transaction of one cannot complete it: return the outcome from the handler"
    )]
    OtherBroker,
    /// The connection is to another file, or a statement failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

asynqueue_core::debug_as_text!(CompleteError);
