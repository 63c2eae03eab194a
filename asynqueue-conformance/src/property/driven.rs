//! Applies operations to a broker.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{
        Aggregation, CancelOutcome, Conflict, Extended, Forwarded, Group, Keep, Lease,
        LeaseRequest, Leased, Move, NewTask, Outcome, Page, Replacement, Settled, Settlement,
        SharedBroker, TaskInfo, Trimmed, When, all_of,
    },
    codec::{CodecName, MessagePack},
    task::{Envelope, Name, TaskId, TaskOptions, TaskRef, TaskState, Timestamp},
};
use bytes::Bytes;

use super::{
    CANCEL_REASON, Operation, QUEUES, Shift, WORKER,
    difference::{Fault, ensure, same},
    lists::complete_list,
    operation::{OnlyIfExpired, Place, enqueued_at, settlement},
};

/// The result of an operation, without values that brokers may choose freely, such as tokens.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Nothing,
    Enqueued(Vec<Result<(), Conflict>>),
    /// With the time of each.
    Leased(Vec<(Arc<Envelope>, Timestamp)>),
    Extended(Vec<Extended>),
    Settled(Vec<Settled>),
    /// Sorted by task.
    Reclaimed(Vec<(TaskRef, Arc<Envelope>, Settled)>),
    /// For each queue.
    Forwarded(Vec<Forwarded>),
    Trimmed(usize),
    Cancelled(Vec<CancelOutcome>),
    Deleted(Vec<bool>),
    RunNow(Vec<bool>),
    /// `None` for a task that does not exist.
    Replaced(Vec<Option<bool>>),
    /// With the next due time.
    Aggregated(Vec<(Group, Result<bool, Conflict>)>, Option<Timestamp>),
}

/// An archived task, and when it was archived.
type Archived = (TaskId, Option<Timestamp>);

/// A broker, and all leases that it has issued, in order. The index of a lease stands for its token.
pub(super) struct Driven<'a> {
    broker: &'a SharedBroker,
    queues: [Name; QUEUES.len()],
    leases: Vec<Leased>,
}

impl<'a> Driven<'a> {
    pub(super) fn new(broker: &'a SharedBroker) -> Self {
        Self {
            broker,
            queues: QUEUES.map(Name::from),
            leases: Vec::new(),
        }
    }

    pub(super) async fn apply(&mut self, operation: &Operation) -> Result<Answer, Fault> {
        let broker = self.broker;
        Ok(match operation {
            Operation::Enqueue(tasks) => {
                let tasks = enqueued_at(tasks, broker.now());
                Answer::Enqueued(broker.enqueue(tasks).await?)
            }
            Operation::Lease { caps, max, lease } => self.lease(caps, *max, *lease).await?,
            Operation::Extend(places, lease) => self.extend(places, *lease).await?,
            Operation::Settle(outcomes) => self.settle(outcomes).await?,
            Operation::Reclaim(limit) => self.reclaim(*limit).await?,
            Operation::Forward(limit) => {
                Answer::Forwarded(all_of(broker.forward(&self.queues, *limit).await)?)
            }
            Operation::Trim(keep, limit) => self.trim(*keep, *limit).await?,
            Operation::Report(progress) => {
                let lease = |(place, progress): &(Place, _)| {
                    Some((self.lease_at(*place)?.lease(), Clone::clone(progress)))
                };
                broker
                    .report(progress.iter().filter_map(lease).collect())
                    .await?;
                Answer::Nothing
            }
            Operation::Cancel(tasks) => {
                Answer::Cancelled(broker.cancel(tasks, CANCEL_REASON).await?)
            }
            Operation::Delete(tasks) => Answer::Deleted(broker.delete(tasks).await?),
            Operation::RunNow(tasks) => Answer::RunNow(broker.run_now(tasks).await?),
            Operation::Pause(queue, paused) => {
                let queue = std::slice::from_ref(&self.queues[*queue]);
                broker.set_paused(queue, *paused).await?;
                Answer::Nothing
            }
            Operation::Advance(_) => Answer::Nothing,
            Operation::Replace(changes) => self.replace(changes).await?,
            Operation::Aggregate(id, limit) => self.aggregate(id, *limit).await?,
        })
    }

    async fn replace(&self, changes: &[(TaskRef, Option<Shift>)]) -> Result<Answer, Fault> {
        let mut replaced = Vec::new();
        for (task, shift) in changes {
            let Some(info) = self
                .broker
                .tasks(std::slice::from_ref(task))
                .await?
                .remove(0)
            else {
                replaced.push(None);
                continue;
            };
            let mut envelope = Envelope::clone(&info.envelope);
            envelope.payload = Bytes::from_static(b"replaced");
            let change = Replacement::new(
                info,
                Arc::new(envelope),
                shift.map(|shift| match shift {
                    Shift::Pending => Move::Pending,
                    Shift::Scheduled(delay) => Move::Scheduled(self.broker.now() + delay),
                    Shift::Archived => Move::Archived,
                }),
            );
            replaced.extend(
                self.broker
                    .replace(vec![change])
                    .await?
                    .into_iter()
                    .map(Some),
            );
        }
        Ok(Answer::Replaced(replaced))
    }

    async fn aggregate(&self, id: &TaskId, limit: usize) -> Result<Answer, Fault> {
        let events = ["event".into()];
        let due = self.broker.due_groups(&self.queues, &events, limit).await?;
        let mut aggregated = Vec::new();
        for group in due.groups {
            let codec = CodecName::of::<MessagePack>();
            let payload = Bytes::from_static(b"whole");
            let mut envelope = Envelope::new(id.clone(), "whole", codec, payload);
            envelope.queue = group.queue.clone();
            envelope.enqueued_at = self.broker.now();
            envelope.options = TaskOptions::shared(|options| options.queue = group.queue.clone());
            let task = NewTask::new(envelope, When::Now);
            let aggregation = Aggregation {
                group: group.clone(),
                task,
            };
            aggregated.push((group, self.broker.aggregate(aggregation).await?));
        }
        Ok(Answer::Aggregated(aggregated, due.next_due))
    }

    async fn lease(
        &mut self,
        caps: &[(usize, usize)],
        max: usize,
        lease: Duration,
    ) -> Result<Answer, Fault> {
        let named = |(queue, cap): &(usize, usize)| (self.queues[*queue].clone(), *cap);
        let request =
            LeaseRequest::new(caps.iter().map(named).collect(), max, lease, WORKER.into());
        let mut answer = Vec::new();
        for leased in all_of(self.broker.lease(&request).await)?.concat() {
            let lease = leased.lease();
            let is_new = self.leases.iter().all(|old| old.lease() != lease);
            ensure(is_new, || format!("{lease:?} was issued twice"))?;
            answer.push((Arc::clone(&leased.envelope), leased.now));
            self.leases.push(leased);
        }
        Ok(Answer::Leased(answer))
    }

    async fn extend(&self, places: &[Place], lease: Duration) -> Result<Answer, Fault> {
        let leases: Vec<Lease> = places
            .iter()
            .filter_map(|place| self.lease_at(*place))
            .map(Leased::lease)
            .collect();
        Ok(Answer::Extended(all_of(
            self.broker.extend(&leases, lease).await,
        )?))
    }

    async fn settle(&self, outcomes: &[(Place, Outcome, OnlyIfExpired)]) -> Result<Answer, Fault> {
        let settle = |(place, outcome, only_if_expired): &(Place, Outcome, OnlyIfExpired)| {
            let Leased {
                envelope, token, ..
            } = self.lease_at(*place)?;
            Some(settlement(
                envelope,
                *token,
                outcome.clone(),
                *only_if_expired,
            ))
        };
        let settlements: Vec<Settlement> = outcomes.iter().filter_map(settle).collect();
        Ok(Answer::Settled(all_of(
            self.broker.settle(&settlements).await,
        )?))
    }

    fn lease_at(&self, place: Place) -> Option<&Leased> {
        self.leases.iter().rev().nth(place)
    }

    /// Reclaims tasks as a server does.
    async fn reclaim(&self, limit: usize) -> Result<Answer, Fault> {
        let mut lost = all_of(
            self.broker
                .expired(&self.queues, Timestamp::MAX, limit)
                .await,
        )?
        .concat();
        // Brokers may return them in any order, but must treat them the same.
        lost.sort_by_key(|lost| lost.envelope.task_ref());
        for lost in &lost {
            let is_known = self.leases.iter().any(|old| old.lease() == lost.lease());
            ensure(is_known, || format!("{:?} was never issued", lost.lease()))?;
        }
        let delay = Duration::ZERO;
        let settlements: Vec<Settlement> = lost
            .iter()
            .map(|lost| settlement(&lost.envelope, lost.token, Outcome::Retry { delay }, true))
            .collect();
        let settled = all_of(self.broker.settle(&settlements).await)?;
        let reclaimed = lost
            .into_iter()
            .zip(settled)
            .map(|(lost, settled)| (lost.envelope.task_ref(), lost.envelope, settled));
        Ok(Answer::Reclaimed(reclaimed.collect()))
    }

    /// Trims completely, because brokers may choose the order of several lists.
    async fn trim(&self, keep: Keep, limit: usize) -> Result<Answer, Fault> {
        let mut trimmed = 0;
        loop {
            let before = self.archived().await?;
            let answers = all_of(self.broker.trim(&self.queues, keep, limit).await)?;
            same("one result per queue", &answers.len(), &self.queues.len())?;
            let deleted = || answers.iter().map(Trimmed::deleted);
            ensure(deleted().all(|deleted| deleted <= limit), || {
                format!("{answers:?} were trimmed in one call")
            })?;
            let deleted: usize = deleted().sum();
            for (before, after) in before.iter().zip(self.archived().await?) {
                let is_left = |(id, _): &&Archived| after.iter().any(|(left, _)| left == id);
                let (left, gone): (Vec<_>, Vec<_>) = before.iter().partition(is_left);
                let oldest = left.iter().map(|(_, at)| at).min();
                let is_newer = |(_, at): &&Archived| oldest.is_some_and(|oldest| at > oldest);
                ensure(!gone.iter().any(is_newer), || {
                    format!("not trimmed oldest first: of {before:?}, {after:?} are left")
                })?;
            }
            if deleted == 0 {
                return Ok(Answer::Trimmed(trimmed));
            }
            trimmed += deleted;
        }
    }

    /// The archived tasks of each queue, newest first.
    async fn archived(&self) -> Result<Vec<Vec<Archived>>, Fault> {
        let mut archived = Vec::new();
        for queue in &self.queues {
            let tasks =
                complete_list(self.broker, queue, TaskState::Archived, Page::first(100)).await?;
            let of = |task: TaskInfo| (task.envelope.id.clone(), task.at);
            archived.push(tasks.into_iter().map(of).collect());
        }
        Ok(archived)
    }
}
