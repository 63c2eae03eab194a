//! The records of pauses: one document for each paused queue or schedule entry.

use super::{
    MAX_CHUNK, nothing,
    records::{encode, readable},
};
use crate::{
    broker::{BrokerError, DocumentSwap, Expect, Pausable, Pause, Put, Space, Store},
    task::Name,
};

/// Records a pause of each.
pub(super) async fn record<S: Store>(
    store: &S,
    of: &[Pausable],
    pause: &Pause,
) -> Result<(), BrokerError> {
    let put = Put::Set(encode(pause)?, None);
    change(store, of, &put).await
}

/// Removes the records of queues.
pub(super) async fn remove_of_queues<S: Store>(
    store: &S,
    queues: &[Name],
) -> Result<(), BrokerError> {
    let of: Vec<_> = queues.iter().cloned().map(Pausable::Queue).collect();
    change(store, &of, &Put::Remove).await
}

/// The change that removes the record of a schedule entry.
pub(super) fn removed_of_schedule(name: &Name) -> DocumentSwap {
    let record = Pausable::Schedule(name.clone()).document();
    DocumentSwap::new(Space::Pauses, record, Expect::Any, Put::Remove)
}

/// The record of each.
pub(super) async fn read<S: Store>(
    store: &S,
    of: &[Pausable],
) -> Result<Vec<Option<Pause>>, BrokerError> {
    if of.is_empty() {
        return nothing(store).await;
    }
    let mut pauses = Vec::with_capacity(of.len());
    for chunk in of.chunks(MAX_CHUNK) {
        let names: Vec<_> = chunk.iter().map(Pausable::document).collect();
        let found = store.document(Space::Pauses, &names).await?.into_iter();
        pauses.extend(found.zip(chunk).map(|(document, of)| {
            let what = format!("the record of the pause of {of:?}");
            document.and_then(|document| readable(&document.bytes, what))
        }));
    }
    Ok(pauses)
}

async fn change<S: Store>(store: &S, of: &[Pausable], put: &Put) -> Result<(), BrokerError> {
    let set = |of: &Pausable| {
        let record = of.document();
        vec![DocumentSwap::new(
            Space::Pauses,
            record,
            Expect::Any,
            put.clone(),
        )]
    };
    for chunk in of.chunks(MAX_CHUNK) {
        store.swap(chunk.iter().map(set).collect()).await?;
    }
    Ok(())
}
