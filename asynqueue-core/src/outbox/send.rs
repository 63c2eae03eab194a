//! Sending the entries of one queue, and what the responses of the broker mean for them.

use super::{Done, Entry};
use crate::{
    broker::{BrokerError, Conflict, NewTask, SharedBroker, TickGuard},
    metrics::EnqueueResult,
    server::is_closed,
    task::Name,
};

/// Why an entry fails whose number the queue refuses although it was never sent.
const FOREIGN: &str = "the queue has already accepted this number or a later one from this outbox: its database was \
    restored from a backup, or another copy of it is relayed under the same id. Delete the entry if its task has run; \
    otherwise retry it, after a copy was given its own id";

/// What became of entries of one queue that were sent together.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) queue: Name,
    /// From the first entry on. The entries behind them are taken again.
    pub(super) results: Vec<Sending>,
    /// The error of the call that ended it.
    pub(super) error: Option<BrokerError>,
}

/// What became of an entry.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) place: u64,
    pub(super) id: String,
    pub(super) event: Name,
    pub(super) result: Relayed,
}

#[derive(Debug)]
pub(super) enum Relayed {
    /// The broker has accepted the task, now or before.
    Accepted,
    /// The broker has refused the task.
    Refused(Conflict),
    /// The task cannot be enqueued. The entry is kept with the reason.
    Failed(String),
}

impl Sending {
    fn new(entry: &Entry, result: Relayed) -> Self {
        Self {
            place: entry.place,
            id: entry.task.id.clone(),
            event: Name::from(entry.task.event.as_str()),
            result,
        }
    }

    pub(super) fn done(&self) -> Done {
        match &self.result {
            Relayed::Accepted | Relayed::Refused(_) => Done::Remove(self.place),
            Relayed::Failed(reason) => Done::Fail(self.place, reason.clone()),
        }
    }

    /// How the task is counted among all tasks that are enqueued.
    pub(super) fn counted(&self) -> EnqueueResult {
        match &self.result {
            Relayed::Accepted => EnqueueResult::Accepted,
            Relayed::Refused(_) => EnqueueResult::Duplicate,
            Relayed::Failed(_) => EnqueueResult::Failed,
        }
    }
}

/// Sends entries of one queue in their order. Stops behind the first one that fails, because its failure must be
/// recorded before the queue accepts a later number.
pub(super) async fn send(
    broker: SharedBroker,
    outbox: Name,
    queue: Name,
    entries: Vec<Entry>,
) -> Sent {
    let mut sent = Sent {
        queue,
        results: Vec::new(),
        error: None,
    };
    let mut tasks = Vec::with_capacity(entries.len());
    let mut undecodable = None;
    for entry in &entries {
        match entry.task.decode() {
            Ok(task) => tasks.push(numbered(task, &outbox, entry.number)),
            Err(reason) => {
                undecodable = Some(Sending::new(entry, Relayed::Failed(reason)));
                break;
            }
        }
    }
    let is_complete = send_together(&broker, &entries[..tasks.len()], tasks, &mut sent).await;
    if is_complete {
        sent.results.extend(undecodable);
    }
    sent
}

fn numbered(task: NewTask, outbox: &Name, number: u64) -> NewTask {
    NewTask {
        tick: Some(TickGuard::of_outbox(outbox, number)),
        ..task
    }
}

/// Sends tasks in one call. If the broker rejects it permanently, sends each of them by itself, because one of them may
/// be the reason. Returns whether all were sent and none has failed.
async fn send_together(
    broker: &SharedBroker,
    entries: &[Entry],
    tasks: Vec<NewTask>,
    sent: &mut Sent,
) -> bool {
    if tasks.is_empty() {
        return true;
    }
    let each = if tasks.len() > 1 {
        tasks.clone()
    } else {
        Vec::new()
    };
    match enqueue(broker, tasks).await {
        Ok(results) => {
            let results = entries.iter().zip(results);
            let results = results.map(|(entry, result)| relayed(entry, result, entry.was_sent));
            sent.results.extend(results);
            return true;
        }
        Err(error) if is_permanent(&error) && entries.len() == 1 => {
            let failed = Relayed::Failed(error.to_string());
            sent.results.push(Sending::new(&entries[0], failed));
            sent.error = Some(error);
            return false;
        }
        Err(error) if is_permanent(&error) => {}
        Err(error) => {
            sent.error = Some(error);
            return false;
        }
    }
    for (entry, task) in entries.iter().zip(each) {
        match enqueue(broker, vec![task]).await {
            // The call before may have accepted it.
            Ok(results) => {
                let results = results.into_iter();
                let results = results.map(|result| relayed(entry, result, true));
                sent.results.extend(results);
            }
            Err(error) => {
                if is_permanent(&error) {
                    let failed = Relayed::Failed(error.to_string());
                    sent.results.push(Sending::new(entry, failed));
                }
                sent.error = Some(error);
                return false;
            }
        }
    }
    true
}

/// Enqueues tasks, and checks that each has a result.
async fn enqueue(
    broker: &SharedBroker,
    tasks: Vec<NewTask>,
) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
    let expected = tasks.len();
    let results = broker.enqueue(tasks).await?;
    match results.len() == expected {
        true => Ok(results),
        false => Err(BrokerError::unavailable(format!(
            "{} results for {expected} tasks",
            results.len()
        ))),
    }
}

/// Whether the call was rejected for what it contains, and not because of the state of the broker.
fn is_permanent(error: &BrokerError) -> bool {
    !error.is_temporary() && !is_closed(error)
}

fn relayed(entry: &Entry, result: Result<(), Conflict>, was_sent: bool) -> Sending {
    let result = match result {
        Ok(()) => Relayed::Accepted,
        // A relay sent it before, and died or did not receive the response.
        Err(Conflict::Fired { .. }) if was_sent => Relayed::Accepted,
        Err(Conflict::Fired { .. }) => Relayed::Failed(FOREIGN.to_owned()),
        Err(conflict) => Relayed::Refused(conflict),
    };
    Sending::new(entry, result)
}
