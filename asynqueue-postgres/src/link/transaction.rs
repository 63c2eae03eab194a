//! A change that takes several statements in one transaction.

use asynqueue_core::broker::BrokerError;
use deadpool_postgres::{Object, Transaction};
use tokio_postgres::{IsolationLevel, Row};

use super::{Event, Fault, Link, Repeat};
use crate::sql::{Call, Value};

/// A transaction, and what to announce once it is committed.
pub(crate) struct Change<'t> {
    link: &'t Link,
    transaction: Transaction<'t>,
    pub(crate) events: Vec<Event>,
}

/// What locks its rows may wait for another transaction, and how long it may be idle if this process stops.
const LIMITS: &str =
    "set local lock_timeout = '3s'; set local idle_in_transaction_session_timeout = '10s'";

impl Change<'_> {
    pub(crate) async fn run(&self, call: Call) -> Result<Vec<Row>, Fault> {
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

impl Link {
    /// Makes a change in one transaction. Repeats it while that is safe.
    pub(crate) async fn change<T: Send>(
        &self,
        repeat: Repeat,
        make: &mut dyn Make<T>,
    ) -> Result<T, BrokerError> {
        let mut retry = self.retry(repeat);
        loop {
            match self.change_once(make).await {
                Ok(result) => return Ok(result),
                Err(fault) => retry.wait_after(fault).await?,
            }
        }
    }

    async fn change_once<T: Send>(&self, make: &mut dyn Make<T>) -> Result<T, Fault> {
        let mut client = self.client().await?;
        match self.make_in(&mut client, make).await {
            Ok((made, events)) => {
                self.announce(events);
                Ok(made)
            }
            Err(fault) => {
                if fault.spoils_connection() {
                    self.discard(client);
                }
                Err(fault)
            }
        }
    }

    /// Makes a change on a connection. Each response has a limit, because the transaction has locked rows in the
    /// meantime, and because heartbeats need the connection.
    async fn make_in<T: Send>(
        &self,
        client: &mut Object,
        make: &mut dyn Make<T>,
    ) -> Result<(T, Vec<Event>), Fault> {
        let transaction = client.build_transaction();
        let transaction = transaction.isolation_level(IsolationLevel::ReadCommitted);
        let transaction = self.in_time(transaction.start()).await?;
        self.in_time(transaction.batch_execute(LIMITS)).await?;
        let mut change = Change {
            link: self,
            transaction,
            events: Vec::new(),
        };
        let made = make.make(&mut change).await?;
        self.in_time(change.transaction.commit()).await?;
        Ok((made, change.events))
    }
}
