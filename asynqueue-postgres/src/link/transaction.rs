//! A change that takes several statements in one transaction.

use asynqueue_core::broker::BrokerError;
use deadpool_postgres::{Object, Transaction};
use tokio_postgres::{IsolationLevel, Row};

use super::{Event, Fault, Link, Reaction};
use crate::sql::{Call, Value};

/// A transaction, and what to announce once it is committed.
pub(crate) struct Change<'t> {
    link: &'t Link,
    transaction: Transaction<'t>,
    pub(crate) events: Vec<Event>,
}

/// How long a transaction may wait for another one, and how long it may be idle if this process stops.
const LIMITS: &str =
    "set local lock_timeout = '3s'; set local idle_in_transaction_session_timeout = '10s'";

impl Change<'_> {
    pub(crate) async fn run(&self, call: Call) -> Result<Vec<Row>, Fault> {
        call.check()?;
        let sql = self.link.schema.apply(call.sql);
        let values = call.typed();
        let response = self.transaction.query_typed(&sql, &values);
        self.link.in_time(response).await
    }

    /// The time that tests have fixed.
    pub(crate) fn fixed(&self) -> Value {
        self.link.fixed()
    }
}

/// A change, to be made in one transaction.
#[async_trait::async_trait]
pub(crate) trait Make<T>: Send {
    async fn make(&mut self, change: &mut Change<'_>) -> Result<T, Fault>;
}

/// What a transaction has made.
struct Made<T> {
    result: T,
    events: Vec<Event>,
}

impl Link {
    /// Makes a change in one transaction, once. It is noted as a call: if the response to its commit is lost, the next try
    /// finds whether it was made.
    pub(crate) async fn change<T: Send>(&self, make: &mut dyn Make<T>) -> Result<T, BrokerError> {
        let lane = self.changes.next();
        let note = format!(
            "{LIMITS}; select asynqueue.note_call('{}', {}, asynqueue.now_at(null), null)",
            lane.name(),
            lane.number()
        );
        let result = self.change_in(make, &self.schema.apply(&note)).await?;
        lane.answered();
        Ok(result)
    }

    /// Makes a change in one transaction, which is made again if the response to its commit is lost.
    pub(crate) async fn change_again<T: Send>(
        &self,
        make: &mut dyn Make<T>,
    ) -> Result<T, BrokerError> {
        self.change_in(make, LIMITS).await
    }

    async fn change_in<T: Send>(
        &self,
        make: &mut dyn Make<T>,
        begin: &str,
    ) -> Result<T, BrokerError> {
        let mut retry = self.retry();
        // What may have been committed.
        let mut unknown = None;
        loop {
            let fault = match self.change_once(make, begin).await {
                Ok((made, Ok(()))) => return Ok(self.announced(made)),
                Ok((made, Err(fault))) => {
                    unknown = (fault.reaction() == Reaction::Unknown).then_some(made);
                    fault
                }
                Err(fault) => match unknown.take_if(|_| fault.is_made_before()) {
                    Some(made) => return Ok(self.announced(made)),
                    None => fault,
                },
            };
            retry.wait_after(fault).await?;
        }
    }

    fn announced<T>(&self, made: Made<T>) -> T {
        self.announce(made.events);
        made.result
    }

    /// Makes a change. Returns how its commit ended.
    async fn change_once<T: Send>(
        &self,
        make: &mut dyn Make<T>,
        begin: &str,
    ) -> Result<(Made<T>, Result<(), Fault>), Fault> {
        let mut client = self.client().await?;
        let made = self.make_in(&mut client, make, begin).await;
        let fault = made
            .as_ref()
            .map_or_else(Some, |(_, end)| end.as_ref().err());
        if fault
            .is_some_and(|fault| fault.spoils_connection() || fault.reaction() == Reaction::Unknown)
        {
            self.discard(client);
        }
        made
    }

    /// Makes a change on a connection. Each response has a limit, because the transaction has locked rows in the
    /// meantime, and because heartbeats need the connection.
    async fn make_in<T: Send>(
        &self,
        client: &mut Object,
        make: &mut dyn Make<T>,
        begin: &str,
    ) -> Result<(Made<T>, Result<(), Fault>), Fault> {
        let transaction = client.build_transaction();
        let transaction = transaction.isolation_level(IsolationLevel::ReadCommitted);
        let transaction = self.in_time(transaction.start()).await?;
        self.in_time(transaction.batch_execute(begin)).await?;
        let mut change = Change {
            link: self,
            transaction,
            events: Vec::new(),
        };
        let result = make.make(&mut change).await?;
        let end = self.in_time(change.transaction.commit()).await;
        let events = change.events;
        Ok((Made { result, events }, end))
    }
}
