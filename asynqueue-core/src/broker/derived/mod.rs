//! What is made of the methods of a [`Store`], once and for every store.

use std::time::Duration;

use super::{BrokerError, Finished, Store};
use crate::task::{TaskRef, TaskState};

/// The error of a call that a store does not offer.
pub(super) fn unsupported(what: &str) -> BrokerError {
    BrokerError::unsupported(format!(
        "{what} is not offered by this broker: leave it out, or use a store that offers it"
    ))
}

/// Looks for the end of a task, in intervals that grow up to a second.
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
