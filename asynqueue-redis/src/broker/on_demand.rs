//! Cancelling, deleting, running and replacing tasks, until all brokers derive them from edits.

use std::sync::Arc;

use asynqueue_core::{
    broker::{
        Broker, BrokerError, CancelOutcome, Change, Edit, Edited, Inspect, Move, Replacement,
        TaskInfo,
    },
    task::{Envelope, TaskRef, TaskState, Timestamp},
};

use super::{RedisBroker, settle::cancelled};

/// What to answer, or to change and what to answer then.
type Step<T> = Result<T, (Change, T)>;

async fn each<T: Clone>(
    broker: &RedisBroker,
    tasks: &[TaskRef],
    missing: T,
    step: impl Fn(&TaskInfo) -> Step<T>,
    refused: T,
) -> Result<Vec<T>, BrokerError> {
    let mut answers = vec![None; tasks.len()];
    while answers.iter().any(Option::is_none) {
        let mut places: Vec<usize> = Vec::new();
        for place in (0..tasks.len()).filter(|place| answers[*place].is_none()) {
            if places.len() < 500 && !places.iter().any(|before| tasks[*before] == tasks[place]) {
                places.push(place);
            }
        }
        let asked: Vec<_> = places.iter().map(|place| tasks[*place].clone()).collect();
        let (mut edits, mut of) = (Vec::new(), Vec::new());
        for (place, found) in places.into_iter().zip(broker.tasks(&asked).await?) {
            match found.map(|seen| (step(&seen), seen)) {
                None => answers[place] = Some(missing.clone()),
                Some((Ok(answer), _)) => answers[place] = Some(answer),
                Some((Err((change, done)), seen)) => {
                    edits.push(Edit { seen, change });
                    of.push((place, done));
                }
            }
        }
        for ((place, done), edited) in of.into_iter().zip(broker.edit_all(&edits).await?) {
            answers[place] = match edited {
                Edited::Done => Some(done),
                Edited::Changed => None,
                Edited::Locked | Edited::Refused => Some(refused.clone()),
            };
        }
    }
    Ok(answers.into_iter().flatten().collect())
}

pub(super) async fn cancel(
    broker: &RedisBroker,
    tasks: &[TaskRef],
    reason: &str,
) -> Result<Vec<CancelOutcome>, BrokerError> {
    let step = |seen: &TaskInfo| match seen.state {
        TaskState::Completed | TaskState::Archived => Ok(CancelOutcome::AlreadyFinished),
        TaskState::Active => Err((
            Change::Cancel {
                reason: reason.into(),
            },
            CancelOutcome::Requested,
        )),
        _ => Err((
            Change::Put {
                envelope: cancelled(&seen.envelope, reason, broker),
                to: Some(Move::Archived),
            },
            CancelOutcome::Cancelled,
        )),
    };
    let refused = CancelOutcome::AlreadyFinished;
    each(broker, tasks, CancelOutcome::NotFound, step, refused).await
}

pub(super) async fn delete(
    broker: &RedisBroker,
    tasks: &[TaskRef],
) -> Result<Vec<bool>, BrokerError> {
    let step = |seen: &TaskInfo| match seen.state {
        TaskState::Active => Ok(false),
        _ => Err((Change::Delete, true)),
    };
    each(broker, tasks, true, step, false).await
}

pub(super) async fn run(broker: &RedisBroker, tasks: &[TaskRef]) -> Result<Vec<bool>, BrokerError> {
    let now = broker.now();
    let step = |seen: &TaskInfo| {
        let envelope = renewed(&seen.envelope, now);
        let to = match seen.state {
            TaskState::Active | TaskState::Completed => return Ok(false),
            TaskState::Pending if Arc::ptr_eq(&envelope, &seen.envelope) => return Ok(true),
            TaskState::Pending => None,
            _ => Some(Move::Pending),
        };
        Err((Change::Put { envelope, to }, true))
    };
    each(broker, tasks, false, step, false).await
}

pub(super) async fn replace(
    broker: &RedisBroker,
    changes: Vec<Replacement>,
) -> Result<Vec<bool>, BrokerError> {
    let refs: Vec<_> = changes
        .iter()
        .map(|change| change.seen.task_ref())
        .collect();
    let now = broker.now();
    let mut replaced = vec![false; changes.len()];
    let (mut edits, mut places) = (Vec::new(), Vec::new());
    for (place, (found, change)) in broker
        .tasks(&refs)
        .await?
        .into_iter()
        .zip(changes)
        .enumerate()
    {
        let as_seen =
            found.filter(|found| found.state == change.state && found.envelope == change.seen);
        if let Some(seen) = as_seen {
            let envelope = match change.to {
                Some(Move::Pending | Move::Scheduled(_)) => renewed(&change.envelope, now),
                _ => change.envelope,
            };
            let change = Change::Put {
                envelope,
                to: change.to,
            };
            edits.push(Edit { seen, change });
            places.push(place);
        }
    }
    for (place, edited) in places.into_iter().zip(broker.edit_all(&edits).await?) {
        replaced[place] = edited == Edited::Done;
    }
    Ok(replaced)
}

fn renewed(envelope: &Arc<Envelope>, now: Timestamp) -> Arc<Envelope> {
    let renewed = envelope.renewed(now);
    renewed.map_or_else(|| Arc::clone(envelope), Arc::new)
}
