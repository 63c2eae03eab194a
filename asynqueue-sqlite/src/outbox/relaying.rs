//! The outbox as a relay uses it: each call runs on a thread that may block.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use asynqueue_core::{
    outbox::{Done, FailedEntry, Outbox, OutboxError, OutboxSize, Take, Taken, Which},
    task::{Clock, Name},
};
use rusqlite::Connection;

use super::{SqliteOutbox, message, table};

/// How often to look whether another connection has committed. Reading it takes microseconds.
const LOOK: Duration = Duration::from_millis(10);

impl SqliteOutbox {
    /// Runs statements on the connection of the relay.
    async fn call<T: Send + 'static>(
        &self,
        mut call: impl FnMut(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, OutboxError> {
        let inner = Arc::clone(&self.inner);
        let call = move || {
            let check = inner.file.check();
            check.map_err(|error| OutboxError::new(message(&error)))?;
            call(&mut inner.db.lock()).map_err(|error| inner.error(error.into()))
        };
        match tokio::task::spawn_blocking(call).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(error) => Err(OutboxError::new("the runtime is shutting down").caused_by(error)),
        }
    }
}

#[async_trait]
impl Outbox for SqliteOutbox {
    fn name(&self) -> &Name {
        &self.name
    }

    async fn take(&self, take: &Take<'_>) -> Result<Taken, OutboxError> {
        let (relay, except, take) = (take.relay.clone(), take.except.to_vec(), *take);
        let (turn, limit, bytes) = (take.turn, take.limit, take.bytes);
        let inner = Arc::clone(&self.inner);
        self.call(move |db| {
            let take = Take {
                relay: &relay,
                turn,
                except: &except,
                limit,
                bytes,
            };
            // Before the entries are read, so that none is missed.
            *inner.seen.lock() = table::data_version(db)?;
            table::take(db, &take, inner.clock.now())
        })
        .await
    }

    async fn finish(&self, relay: &Name, done: &[Done]) -> Result<bool, OutboxError> {
        let (relay, done) = (relay.clone(), done.to_vec());
        self.call(move |db| table::finish(db, &relay, &done)).await
    }

    async fn leave(&self, relay: &Name) -> Result<(), OutboxError> {
        let relay = relay.clone();
        self.call(move |db| table::leave(db, &relay)).await
    }

    async fn size(&self) -> Result<OutboxSize, OutboxError> {
        let now = self.inner.clock.now();
        self.call(move |db| table::size(db, now)).await
    }

    async fn failed(&self, after: u64, limit: usize) -> Result<Vec<FailedEntry>, OutboxError> {
        self.call(move |db| table::failed(db, after, limit)).await
    }

    async fn retry(&self, which: Which<'_>) -> Result<u64, OutboxError> {
        let (places, now) = (places(which), self.inner.clock.now());
        self.call(move |db| table::retry(db, these(places.as_deref()), now))
            .await
    }

    async fn delete(&self, which: Which<'_>) -> Result<u64, OutboxError> {
        let places = places(which);
        self.call(move |db| table::delete(db, these(places.as_deref())))
            .await
    }

    async fn changed(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let seen = *self.inner.seen.lock();
            // An error is found by the next call.
            let version = self.call(|db| table::data_version(db)).await;
            if version.map_or(true, |version| version != seen) {
                return;
            }
        }
    }
}

/// The places of entries. `None` for all.
fn places(which: Which<'_>) -> Option<Vec<u64>> {
    match which {
        Which::All => None,
        Which::These(places) => Some(places.to_vec()),
    }
}

fn these(places: Option<&[u64]>) -> Which<'_> {
    places.map_or(Which::All, Which::These)
}
