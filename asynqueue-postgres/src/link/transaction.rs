//! A change that takes several statements in one transaction.

use std::time::{Duration, Instant};

use asynqueue_core::broker::BrokerError;
use deadpool_postgres::{Object, Transaction};
use tokio_postgres::{IsolationLevel, Row, SimpleQueryMessage};

use super::{Event, Fault, Link, Reaction};
use crate::sql::{Call, Value, values::text};

/// A transaction, and what to announce once it is committed.
pub(crate) struct Change<'t> {
    link: &'t Link,
    transaction: Transaction<'t>,
    pub(crate) events: Vec<Event>,
}

/// How long a transaction may wait for another one, and how long it may be idle if this process stops. Its number.
const BEGIN: &str = "set local lock_timeout = '3s'; set local idle_in_transaction_session_timeout = '10s'; \
     select pg_current_xact_id()";

/// How long a transaction may be in progress after its connection is lost: longer than it may be idle.
const LONGEST_END: Duration = Duration::from_secs(15);

/// The pause between two looks at such a transaction.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

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

/// What a transaction has made.
struct Made<T> {
    result: T,
    events: Vec<Event>,
    /// The number of the transaction.
    number: String,
}

impl Link {
    /// Makes a change in one transaction, once: if the response to its commit is lost, the server is asked what became
    /// of it.
    pub(crate) async fn change<T: Send>(&self, make: &mut dyn Make<T>) -> Result<T, BrokerError> {
        let mut retry = self.retry();
        loop {
            match self.change_once(make).await {
                Ok(result) => return Ok(result),
                Err(fault) => retry.wait_after(fault).await?,
            }
        }
    }

    async fn change_once<T: Send>(&self, make: &mut dyn Make<T>) -> Result<T, Fault> {
        let mut client = self.client().await?;
        let made = self.make_in(&mut client, make).await;
        let fault = made
            .as_ref()
            .map_or_else(Some, |(_, end)| end.as_ref().err());
        if fault.is_some_and(Fault::spoils_connection) {
            self.discard(client);
        }
        let (made, end) = made?;
        if let Err(fault) = end {
            let is_unknown = fault.reaction() == Reaction::Unknown;
            if !is_unknown || !self.was_committed(&made.number).await? {
                return Err(fault);
            }
        }
        self.announce(made.events);
        Ok(made.result)
    }

    /// Makes a change on a connection. Returns how its commit ended. Each response has a limit, because the transaction
    /// has locked rows in the meantime, and because heartbeats need the connection.
    async fn make_in<T: Send>(
        &self,
        client: &mut Object,
        make: &mut dyn Make<T>,
    ) -> Result<(Made<T>, Result<(), Fault>), Fault> {
        let transaction = client.build_transaction();
        let transaction = transaction.isolation_level(IsolationLevel::ReadCommitted);
        let transaction = self.in_time(transaction.start()).await?;
        let begun = self.in_time(transaction.simple_query(BEGIN)).await?;
        let number = begun.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let number = number.unwrap_or_default().to_owned();
        let mut change = Change {
            link: self,
            transaction,
            events: Vec::new(),
        };
        let result = make.make(&mut change).await?;
        let end = self.in_time(change.transaction.commit()).await;
        let events = change.events;
        Ok((
            Made {
                result,
                events,
                number,
            },
            end,
        ))
    }

    /// Whether a transaction was committed. It may be in progress for a while after its connection is lost.
    async fn was_committed(&self, number: &str) -> Result<bool, BrokerError> {
        let call = Call::new("select pg_xact_status($1::xid8)", [text(number)]);
        let until = Instant::now() + LONGEST_END;
        loop {
            let rows = self.call(&call).await?;
            match rows.first().and_then(|row| row.get::<_, Option<&str>>(0)) {
                Some("aborted") => return Ok(false),
                Some("in progress") if Instant::now() < until => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Some("in progress") => {
                    let problem = "a transaction whose connection was lost is still in progress";
                    return Err(BrokerError::unavailable(problem));
                }
                // Committed, or so long ago that nobody knows.
                _ => return Ok(true),
            }
        }
    }
}
