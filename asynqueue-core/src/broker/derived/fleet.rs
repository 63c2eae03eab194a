//! `Fleet`: one document for each server's report, and one for the request to it.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    declared, outboxes,
    records::{as_read, decode, encode, readable},
};
use crate::{
    broker::{
        BrokerError, Document, DocumentSwap, Expect, Fleet, OutboxAction, OutboxInfo,
        OutboxRequest, Put, QuietRequest, ServerInfo, Space, Store,
    },
    task::{Name, Timestamp},
};

#[async_trait]
impl<S: Store> Fleet for S {
    async fn beat(
        &self,
        server: ServerInfo,
        ttl: Duration,
    ) -> Result<Option<QuietRequest>, BrokerError> {
        let (now, name) = (self.now(), server.name.clone());
        let put = Put::Set(encode(&server)?, Some(now + ttl));
        let set = vec![
            DocumentSwap::new(Space::Servers, &name, Expect::Any, put),
            DocumentSwap::new(Space::Requests, &name, Expect::Any, Put::Keep),
        ];
        let swapped = self.swap(vec![set]).await?.pop().unwrap_or_default();
        if is_turn_to_forget(&name, now) {
            forget_gone(self).await;
            declared::forget_old_removals(self).await;
        }
        let request = swapped.kept.into_iter().next().flatten();
        Ok(request.and_then(|request| readable(&request.bytes, request_to(&name))))
    }

    async fn request_quiet(&self, server: &Name, quiet: bool) -> Result<bool, BrokerError> {
        let look = |space| DocumentSwap::new(space, server, Expect::Any, Put::Keep);
        loop {
            let set = vec![look(Space::Servers), look(Space::Requests)];
            let found = self.swap(vec![set]).await?.pop().unwrap_or_default();
            let now = self.now();
            let mut found = found.kept.into_iter();
            let known = found.next().flatten().filter(|known| !is_gone(known, now));
            let Some(known) = known else {
                return Ok(false);
            };
            let before = found.next().flatten();
            let last = match &before {
                Some(before) => Some(decode(&before.bytes, request_to(server))?),
                None => None,
            };
            let request = encode(&QuietRequest::after(last, quiet, now))?;
            // Only if it still exists: otherwise the request would reach a later server of the same name.
            let there = as_read(Some(&known));
            let put = Put::Set(request, None);
            let set = vec![
                DocumentSwap::new(Space::Servers, server, there, Put::Keep),
                DocumentSwap::new(Space::Requests, server, as_read(before.as_ref()), put),
            ];
            if self.swap(vec![set]).await?.iter().any(|set| set.is_done) {
                return Ok(true);
            }
        }
    }

    async fn leave(&self, server: &Name) -> Result<(), BrokerError> {
        let set = forgotten(server, Expect::Any);
        self.swap(vec![set]).await.map(drop)
    }

    async fn servers(&self) -> Result<Vec<ServerInfo>, BrokerError> {
        let (all, now) = (self.documents(Space::Servers).await?, self.now());
        let (gone, known): (Vec<_>, Vec<_>) =
            (all.into_iter()).partition(|(_, document)| is_gone(document, now));
        forget(self, gone).await?;
        let of = |name: &Name| format!("the report of server `{name}`");
        let known = known.iter();
        let known = known.filter_map(|(name, document)| readable(&document.bytes, of(name)));
        Ok(known.collect())
    }

    async fn report_outbox(
        &self,
        outbox: OutboxInfo,
        ttl: Duration,
    ) -> Result<Option<OutboxRequest>, BrokerError> {
        outboxes::report(self, outbox, ttl).await
    }

    async fn request_outbox(
        &self,
        outbox: &Name,
        actions: Vec<OutboxAction>,
    ) -> Result<bool, BrokerError> {
        outboxes::request(self, outbox, actions).await
    }

    async fn outboxes(&self) -> Result<Vec<OutboxInfo>, BrokerError> {
        outboxes::all(self).await
    }
}

fn request_to(server: &Name) -> String {
    format!("the request to server `{server}`")
}

/// Whether a server was silent for too long.
fn is_gone(server: &Document, now: Timestamp) -> bool {
    server.due.is_some_and(|due| due <= now)
}

/// The changes that remove a server and the request to it.
fn forgotten(server: &Name, expect: Expect) -> Vec<DocumentSwap> {
    vec![
        DocumentSwap::new(Space::Servers, server, expect, Put::Remove),
        DocumentSwap::new(Space::Requests, server, Expect::Any, Put::Remove),
    ]
}

/// Removes servers that have stopped reporting, unless they have reported again in between.
async fn forget<S: Store>(store: &S, gone: Vec<(Name, Document)>) -> Result<(), BrokerError> {
    if gone.is_empty() {
        return Ok(());
    }
    let gone = gone.iter();
    let gone = gone.map(|(name, document)| forgotten(name, as_read(Some(document))));
    store.swap(gone.collect()).await.map(drop)
}

/// Whether the reporting server also deletes expired records, of servers and of removals, because no one else may read
/// them. Each server does so about once a minute, at a time that depends on its name.
fn is_turn_to_forget(server: &Name, now: Timestamp) -> bool {
    let name = server.bytes();
    let hash = name.fold(0, |hash: u64, byte| {
        hash.wrapping_mul(31).wrapping_add(byte.into())
    });
    now.as_millis() / BEAT % BEATS == hash % BEATS
}

/// How often servers report, in milliseconds, and how many reports a minute has.
const BEAT: u64 = 5_000;
const BEATS: u64 = 12;

/// How many servers are removed per call.
const FORGOTTEN_AT_ONCE: usize = 100;

/// Removes servers that have stopped reporting. Nothing depends on it.
async fn forget_gone<S: Store>(store: &S) {
    let forgotten = async {
        let gone = store.due(Space::Servers, FORGOTTEN_AT_ONCE).await?;
        forget(store, gone.documents).await
    };
    if let Err(error) = forgotten.await {
        tracing::debug!(%error, "could not remove lost servers from the fleet");
    }
}
