//! `Control`: cancels, deletes, runs and replaces tasks. Each call edits the task as it was read.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    MAX_CHUNK, as_stored,
    edits::{Step, edit_each},
    nothing, pauses,
};
use crate::{
    broker::{
        BrokerError, CancelOutcome, Change, Control, Edit, Edited, Finished, Lease, Move, Pausable,
        Pause, Point, Replacement, Signals, Store,
    },
    process::Progress,
    task::{Envelope, Name, TaskRef, TaskState, Timestamp},
};

#[async_trait]
impl<S: Store> Control for S {
    as_stored! {
        fn signals(['life1] queues: [Name]) -> Signals;
        fn pass_on(['life1] queue: Name) -> ();
        fn finished(['life1] task: TaskRef) -> Finished;
        fn report(progress: Vec<(Lease, Progress)>) -> ();
        fn add_points(points: Vec<Point>) -> ();
        fn ping() -> ();
    }

    async fn set_paused(&self, queues: &[Name], paused: bool) -> Result<(), BrokerError> {
        // Without its record, a queue that stays paused after a failure in between shows no wrong cause.
        if !paused {
            pauses::remove_of_queues(self, queues).await?;
        }
        Store::set_paused(self, queues, paused).await
    }

    async fn record_pauses(&self, of: &[Pausable], pause: &Pause) -> Result<(), BrokerError> {
        pauses::record(self, of, pause).await
    }

    async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError> {
        let is_gone = Store::delete_queue(self, queue, force).await?;
        if is_gone {
            pauses::remove_of_queues(self, std::slice::from_ref(queue)).await?;
        }
        Ok(is_gone)
    }

    async fn cancel(
        &self,
        tasks: &[TaskRef],
        reason: &str,
    ) -> Result<Vec<CancelOutcome>, BrokerError> {
        let now = Store::now(self);
        let missing = CancelOutcome::NotFound;
        edit_each(self, tasks, missing, |task| {
            let (change, done) = match task.state {
                TaskState::Completed | TaskState::Archived => {
                    return Step::Return(CancelOutcome::AlreadyFinished);
                }
                TaskState::Active => {
                    let reason = reason.to_owned();
                    (Change::Cancel { reason }, CancelOutcome::Requested)
                }
                _ => {
                    let envelope = Arc::new(task.envelope.cancelled(reason, now));
                    let to = Some(Move::Archived);
                    (Change::Put { envelope, to }, CancelOutcome::Cancelled)
                }
            };
            let refused = CancelOutcome::AlreadyFinished;
            Step::Try {
                change,
                done,
                refused,
            }
        })
        .await
    }

    async fn delete(&self, tasks: &[TaskRef]) -> Result<Vec<bool>, BrokerError> {
        edit_each(self, tasks, true, |task| match task.state {
            TaskState::Active => Step::Return(false),
            _ => Step::Try {
                change: Change::Delete,
                done: true,
                refused: false,
            },
        })
        .await
    }

    async fn run_now(&self, tasks: &[TaskRef]) -> Result<Vec<bool>, BrokerError> {
        let now = Store::now(self);
        edit_each(self, tasks, false, |task| {
            let envelope = renewed(&task.envelope, now);
            let to = match task.state {
                TaskState::Active | TaskState::Completed => return Step::Return(false),
                TaskState::Pending if Arc::ptr_eq(&envelope, &task.envelope) => {
                    return Step::Return(true);
                }
                TaskState::Pending => None,
                _ => Some(Move::Pending),
            };
            Step::Try {
                change: Change::Put { envelope, to },
                done: true,
                refused: false,
            }
        })
        .await
    }

    async fn replace(&self, changes: Vec<Replacement>) -> Result<Vec<bool>, BrokerError> {
        if changes.is_empty() {
            return nothing(self).await;
        }
        let now = Store::now(self);
        let edit = |change: Replacement| {
            let envelope = match change.to {
                Some(Move::Pending | Move::Scheduled(_)) => renewed(&change.envelope, now),
                Some(Move::Archived) | None => change.envelope,
            };
            let to = change.to;
            Edit {
                seen: change.seen,
                change: Change::Put { envelope, to },
            }
        };
        let edits: Vec<_> = changes.into_iter().map(edit).collect();
        let mut done = Vec::with_capacity(edits.len());
        for chunk in edits.chunks(MAX_CHUNK) {
            let edited = self.edit(chunk).await?.into_iter();
            done.extend(edited.map(|edited| edited == Edited::Done));
        }
        Ok(done)
    }

    async fn close(&self) {
        Store::close(self).await;
    }
}

/// The task with its times [renewed](Envelope::renewed) if they have passed.
fn renewed(envelope: &Arc<Envelope>, now: Timestamp) -> Arc<Envelope> {
    let renewed = envelope.renewed(now);
    renewed.map_or_else(|| Arc::clone(envelope), Arc::new)
}
