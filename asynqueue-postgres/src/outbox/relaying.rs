//! The outbox as a relay uses it.

use std::future::poll_fn;

use async_trait::async_trait;
use asynqueue_core::{
    outbox::{Done, FailedEntry, Outbox, OutboxError, OutboxSize, Take, Taken, Which},
    task::Name,
};
use tokio_postgres::Row;

use super::{PostgresOutbox, failed, signals_of, table, take::Taking, written};
use crate::{
    link::{Change, Fault, Make},
    sql::Call,
};

impl PostgresOutbox {
    /// Runs a statement that has the same effect and result if it is repeated.
    async fn call(&self, call: Call) -> Result<Vec<Row>, OutboxError> {
        let called = self.inner.link.call(&call).await;
        called.map_err(failed)
    }

    /// Runs a statement once. Returns its one value, a number.
    async fn count(&self, call: Call) -> Result<u64, OutboxError> {
        let mut once = Once(call);
        let counted = self.inner.link.change_again(&mut once).await;
        Ok(table::unsigned(counted.map_err(failed)?))
    }

    /// Listens from now on, and forgets what was announced until now.
    async fn begin_to_listen(&self) {
        let link = &self.inner.link;
        {
            let mut heard = self.inner.heard.lock();
            let heard = heard.get_or_insert_with(|| link.news.here.listen(&[signals_of()]));
            while heard.try_recv().is_ok() {}
        }
        link.listen().await;
    }
}

#[async_trait]
impl Outbox for PostgresOutbox {
    fn name(&self) -> &Name {
        &self.name
    }

    async fn take(&self, take: &Take<'_>) -> Result<Taken, OutboxError> {
        // Before the entries are read, so that none is missed.
        self.begin_to_listen().await;
        let known = self.inner.turn.lock().clone();
        let mut taking = Taking { take, known };
        let link = &self.inner.link;
        let rows = self.call(taking.look(link.fixed())).await?;
        let idle = match rows.first() {
            Some(row) => taking.idle(row),
            None => {
                self.call(Taking::begin_anew()).await?;
                None
            }
        };
        let (taken, turn) = match idle {
            Some(idle) => idle,
            None => {
                let taken = link.change_again(&mut taking).await;
                taken.map_err(failed)?
            }
        };
        *self.inner.turn.lock() = turn;
        Ok(taken)
    }

    async fn finish(&self, relay: &Name, done: &[Done]) -> Result<bool, OutboxError> {
        let rows = self.call(table::finish(relay, done)).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    async fn leave(&self, relay: &Name) -> Result<(), OutboxError> {
        self.call(table::leave(relay)).await.map(drop)
    }

    async fn size(&self) -> Result<OutboxSize, OutboxError> {
        let rows = self.call(table::size(self.inner.link.fixed())).await?;
        Ok(rows.first().map(table::size_of).unwrap_or_default())
    }

    async fn failed(&self, after: u64, limit: usize) -> Result<Vec<FailedEntry>, OutboxError> {
        let rows = self.call(table::failed(after, limit)).await?;
        Ok(rows.iter().map(table::failed_entry).collect())
    }

    async fn retry(&self, which: Which<'_>) -> Result<u64, OutboxError> {
        let fixed = self.inner.link.fixed();
        let retried = self.count(table::retry(which, fixed)).await?;
        self.inner.link.announce(vec![written()]);
        Ok(retried)
    }

    async fn delete(&self, which: Which<'_>) -> Result<u64, OutboxError> {
        self.count(table::delete(which)).await
    }

    async fn changed(&self) {
        poll_fn(|context| match &mut *self.inner.heard.lock() {
            Some(heard) => heard.poll_recv(context).map(drop),
            // Nothing was taken yet. The relay polls.
            None => std::task::Poll::Pending,
        })
        .await;
    }
}

/// A statement in a transaction of its own, whose result is a number.
struct Once(Call);

#[async_trait]
impl Make<i64> for Once {
    async fn make(&mut self, change: &mut Change<'_>) -> Result<i64, Fault> {
        let rows = change.run(self.0.clone()).await?;
        Ok(rows.first().map_or(0, |row| row.get(0)))
    }
}
