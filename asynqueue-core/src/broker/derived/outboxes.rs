//! The outboxes of the fleet: one document for the report of each relay, and one for the request to it.

use std::time::Duration;

use super::records::{as_read, decode, encode, readable};
use crate::{
    broker::{
        BrokerError, Document, DocumentSwap, Expect, OutboxAction, OutboxInfo, OutboxRequest, Put,
        Space, Store,
    },
    task::{Name, Timestamp},
};

pub(super) async fn report<S: Store>(
    store: &S,
    outbox: OutboxInfo,
    ttl: Duration,
) -> Result<Option<OutboxRequest>, BrokerError> {
    let (id, served) = (outbox.id.clone(), outbox.served);
    let put = Put::Set(encode(&outbox)?, Some(store.now() + ttl));
    let request = request_name(&id);
    let set = vec![
        DocumentSwap::new(Space::Outboxes, &id, Expect::Any, put),
        DocumentSwap::new(Space::Outboxes, &request, Expect::Any, Put::Keep),
    ];
    let swapped = store.swap(vec![set]).await?.pop().unwrap_or_default();
    let Some(document) = swapped.kept.into_iter().next().flatten() else {
        return Ok(None);
    };
    let Some(found) = readable::<OutboxRequest>(&document.bytes, of(&id)) else {
        return Ok(None);
    };
    if served < Some(found.at) {
        return Ok(Some(found));
    }
    // Unless something was added in between.
    let expect = as_read(Some(&document));
    let set = vec![DocumentSwap::new(
        Space::Outboxes,
        &request,
        expect,
        Put::Remove,
    )];
    store.swap(vec![set]).await?;
    Ok(None)
}

pub(super) async fn request<S: Store>(
    store: &S,
    id: &Name,
    actions: Vec<OutboxAction>,
) -> Result<bool, BrokerError> {
    let request = request_name(id);
    let look = |name| DocumentSwap::new(Space::Outboxes, name, Expect::Any, Put::Keep);
    loop {
        let set = vec![look(id), look(&request)];
        let found = store.swap(vec![set]).await?.pop().unwrap_or_default();
        let now = store.now();
        let mut found = found.kept.into_iter();
        let known = found.next().flatten().filter(|known| !is_gone(known, now));
        let Some(known) = known else {
            return Ok(false);
        };
        let before = found.next().flatten();
        // Later than what the relay has followed, so that it is not taken for that.
        let served = readable::<OutboxInfo>(&known.bytes, of(id)).and_then(|info| info.served);
        let last = match &before {
            Some(before) => Some(decode(&before.bytes, of(id))?),
            None => served.map(|at| OutboxRequest::after(None, Vec::new(), at)),
        };
        let all = encode(&OutboxRequest::after(last, actions.clone(), now))?;
        let put = Put::Set(all, None);
        let set = vec![
            DocumentSwap::new(Space::Outboxes, id, as_read(Some(&known)), Put::Keep),
            DocumentSwap::new(Space::Outboxes, &request, as_read(before.as_ref()), put),
        ];
        if store.swap(vec![set]).await?.iter().any(|set| set.is_done) {
            return Ok(true);
        }
    }
}

pub(super) async fn all<S: Store>(store: &S) -> Result<Vec<OutboxInfo>, BrokerError> {
    let now = store.now();
    let mut all = store.documents(Space::Outboxes).await?;
    all.retain(|(name, _)| !is_request(name));
    let (gone, known): (Vec<_>, Vec<_>) =
        (all.into_iter()).partition(|(_, document)| is_gone(document, now));
    if !gone.is_empty() {
        let gone = gone.iter();
        let gone = gone.map(|(id, document)| forgotten(id, document));
        store.swap(gone.collect()).await?;
    }
    let known = known.iter();
    let known = known.filter_map(|(id, document)| readable(&document.bytes, of(id)));
    Ok(known.collect())
}

/// The document of the request to the relay of an outbox. Ids have no line breaks.
fn request_name(id: &Name) -> Name {
    format!("{id}\nrequest").into()
}

fn is_request(name: &Name) -> bool {
    name.ends_with("\nrequest")
}

fn of(id: &Name) -> String {
    format!("the report of outbox `{id}` or the request to it")
}

fn is_gone(outbox: &Document, now: Timestamp) -> bool {
    outbox.due.is_some_and(|due| due <= now)
}

/// The changes that remove an outbox that was not reported for long, unless it was reported again in between.
fn forgotten(id: &Name, document: &Document) -> Vec<DocumentSwap> {
    let expect = as_read(Some(document));
    vec![
        DocumentSwap::new(Space::Outboxes, id, expect, Put::Remove),
        DocumentSwap::new(Space::Outboxes, request_name(id), Expect::Any, Put::Remove),
    ]
}
