//! Statements that no caller waits for. They have a time limit: whatever they announce, the next ones must not wait for a
//! connection that does not respond.

use std::time::Duration;

use asynqueue_core::broker::kit::io;
use deadpool_postgres::{Object, Pool};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

use super::{isolation::Isolation, tls::Tls};

/// Closes a connection whose state is unknown, and cancels what it does.
pub(super) fn discard(client: Object, tls: Tls) {
    let client = Object::take(client);
    let token = client.cancel_token();
    let cancelling = async move {
        // Best effort: the server also ends it once it notices that the connection is closed.
        let _ = tokio::time::timeout(Duration::from_secs(1), tls.cancel(token)).await;
    };
    // Fails if the process ends.
    let _ = io::spawn(cancelling);
    drop(client);
}

/// Runs statements without a retry.
#[derive(Clone)]
pub(super) struct Aside {
    pub(super) pool: Pool,
    pub(super) isolation: Isolation,
    pub(super) tls: Tls,
    /// For each response.
    pub(super) limit: Duration,
}

impl Aside {
    /// Runs a statement as a transaction. Closes the connection if there is no response in time.
    pub(super) async fn run(
        &self,
        sql: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, String> {
        // The pool has its own limits.
        let client = self.pool.get().await.map_err(|error| error.to_string())?;
        let response = self.isolation.run(&client, sql, values);
        match tokio::time::timeout(self.limit, response).await {
            Ok(response) => response.map_err(|error| super::problem(&error)),
            Err(_) => {
                discard(client, self.tls.clone());
                Err(format!("no response within {:?}", self.limit))
            }
        }
    }
}
