//! The callers' traits, implemented once for every store with the methods of [`Store`].
//!
//! Each trait has a file. Shared parts: `edits` reads tasks and edits them, `records` encodes documents, and `declared`
//! has the marks and removals of what programs declare.

mod broker;
mod control;
mod declared;
mod edits;
mod entry;
mod fire;
mod fleet;
mod groups;
mod inspect;
mod outboxes;
mod pauses;
mod records;
mod schedules;
mod subscriptions;

use std::time::Duration;

pub(crate) use self::{
    declared::{
        SCHEDULES as SCHEDULES_MARK, SUBSCRIPTIONS as SUBSCRIPTIONS_MARK, forget_removal, new_mark,
        note_removal,
    },
    entry::removal as removal_of_entry,
};
use super::{BrokerError, Finished, Store};
use crate::task::{TaskRef, TaskState};

/// The most tasks or documents in one call of a store.
const MAX_CHUNK: usize = 500;

/// Implements methods of a caller's trait with the store's methods of the same name. Returns the store's future, so a
/// call costs no additional allocation.
macro_rules! as_stored {
    ($(fn $method:ident($($([$life:lifetime])? $arg:ident: $ty:ty),*) -> $out:ty;)*) => {$(
        fn $method<'life0, $($($life,)?)* 'async_trait>(
            &'life0 self,
            $($arg: $(&$life)? $ty),*
        ) -> futures_util::future::BoxFuture<'async_trait, Result<$out, BrokerError>>
        where
            'life0: 'async_trait,
            $($($life: 'async_trait,)?)*
            Self: 'async_trait,
        {
            Store::$method(self, $($arg),*)
        }
    )*};
}
use as_stored;

/// The result of a call without items: empty, if the store is open.
async fn nothing<S: Store, T>(store: &S) -> Result<Vec<T>, BrokerError> {
    store.swap(Vec::new()).await?;
    Ok(Vec::new())
}

/// The error of a call that the store does not support.
pub(crate) fn unsupported(what: &str) -> BrokerError {
    BrokerError::unsupported(format!(
        "{what}: remove it, or use a store that supports it"
    ))
}

/// Polls for the end of a task, at intervals that grow to one second.
pub(super) async fn poll_for_end<S: Store + ?Sized>(
    store: &S,
    task: &TaskRef,
) -> Result<Finished, BrokerError> {
    let mut wait = Duration::from_millis(20);
    loop {
        let found = store.tasks(std::slice::from_ref(task)).await?;
        let Some(found) = found.into_iter().next().flatten() else {
            return Ok(Finished::Gone);
        };
        match found.state {
            TaskState::Completed => {
                return Ok(Finished::Completed {
                    result: found.result,
                    codec: found.envelope.codec.clone(),
                });
            }
            TaskState::Archived => {
                let failure = found.envelope.last_failure().cloned().map(Box::new);
                return Ok(Finished::Archived { failure });
            }
            _ => tokio::time::sleep(wait).await,
        }
        wait = (wait * 2).min(Duration::from_secs(1));
    }
}
