//! A change that takes several statements in one transaction.

use std::time::Duration;

use asynqueue_core::broker::BrokerError;
use deadpool_postgres::Transaction;
use tokio_postgres::Row;

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
        Ok(self.transaction.query_typed(&sql, &call.typed()).await?)
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
        // More than the limit for one response: these are several.
        let limit = self.response_timeout.max(Duration::from_secs(30));
        let making = async {
            let transaction = client.transaction().await?;
            transaction.batch_execute(LIMITS).await?;
            let mut change = Change {
                link: self,
                transaction,
                events: Vec::new(),
            };
            let made = make.make(&mut change).await?;
            change.transaction.commit().await?;
            Ok::<_, Fault>((made, change.events))
        };
        match tokio::time::timeout(limit, making).await {
            Ok(made) => {
                let (made, events) = made?;
                self.announce(events);
                Ok(made)
            }
            Err(_) => {
                self.discard(client);
                Err(Fault::Late(limit))
            }
        }
    }
}
