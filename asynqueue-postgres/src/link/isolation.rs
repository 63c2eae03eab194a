//! Calls are `read committed`, whatever the default of the role is: they lock rows first, and then read what others have
//! left of them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio_postgres::{
    Client, Error, Row,
    types::{ToSql, Type},
};

/// Whether the default of the role is stricter. A session that a pooler shares cannot change its default, so that each
/// call then begins its own transaction.
#[derive(Clone, Debug, Default)]
pub(super) struct Isolation(Arc<AtomicBool>);

impl Isolation {
    /// Notes the default of a new connection.
    pub(super) async fn note(&self, client: &Client) -> Result<(), Error> {
        let sql = "select current_setting('default_transaction_isolation') <> 'read committed'";
        if client.query_typed_one(sql, &[]).await?.get(0) {
            self.0.store(true, Relaxed);
        }
        Ok(())
    }

    /// Runs a statement as a transaction.
    pub(super) async fn run(
        &self,
        client: &Client,
        sql: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        if !self.0.load(Relaxed) {
            return client.query_typed(sql, values).await;
        }
        // All three are sent together, so that nothing is between them. A commit after an error is a rollback.
        let (begun, rows, ended) = tokio::join!(
            client.batch_execute("begin isolation level read committed"),
            client.query_typed(sql, values),
            client.batch_execute("commit"),
        );
        let rows = begun.and(rows)?;
        ended.map(|()| rows)
    }
}
