//! Applies operations to the model as to brokers.

use std::sync::Arc;

use asynqueue_core::{
    broker::{LeaseToken, Outcome, QueueStats, Settlement},
    task::{Envelope, Name, TaskState},
};

use super::Model;
use crate::property::{
    CANCEL_REASON, Operation, QUEUES,
    driven::Answer,
    model::entry::Place as TaskPlace,
    operation::{OnlyIfExpired, Place, enqueued_at, settlement},
    state::{QueueState, State},
};

impl Model {
    pub(in crate::property) fn apply(&mut self, operation: &Operation) -> Answer {
        match operation {
            Operation::Enqueue(tasks) => {
                Answer::Enqueued(self.enqueue(&enqueued_at(tasks, self.now)))
            }
            Operation::Lease { caps, max, lease } => Answer::Leased(self.lease(caps, *max, *lease)),
            Operation::Extend(places, lease) => {
                let leases: Vec<_> = places.iter().filter_map(|at| self.lease_at(*at)).collect();
                let extend = |(envelope, token): (Arc<Envelope>, _)| {
                    self.extend(&envelope.task_ref(), token, *lease)
                };
                Answer::Extended(leases.into_iter().map(extend).collect())
            }
            Operation::Settle(outcomes) => {
                let settlements = self.settlements(outcomes);
                Answer::Settled(settlements.iter().map(|one| self.settle(one)).collect())
            }
            Operation::Reclaim(limit) => self.reclaim(*limit),
            Operation::Forward(limit) => Answer::Forwarded(self.forward(*limit)),
            Operation::Trim(keep, _) => Answer::Trimmed(self.trim(*keep)),
            Operation::Report(progress) => {
                for (at, progress) in progress {
                    if let Some((envelope, token)) = self.lease_at(*at) {
                        self.report(&envelope.task_ref(), token, progress);
                    }
                }
                Answer::Nothing
            }
            Operation::Cancel(tasks) => Answer::Cancelled(self.cancel(tasks, CANCEL_REASON)),
            Operation::Delete(tasks) => Answer::Deleted(self.delete(tasks)),
            Operation::RunNow(tasks) => Answer::RunNow(self.run_now(tasks)),
            Operation::Pause(queue, paused) => {
                self.paused[*queue] = *paused;
                Answer::Nothing
            }
            Operation::Advance(_) => Answer::Nothing,
            Operation::Replace(_) | Operation::Aggregate(..) => {
                unreachable!("the model has no groups and replacements")
            }
        }
    }

    fn settlements(&self, outcomes: &[(Place, Outcome, OnlyIfExpired)]) -> Vec<Settlement> {
        let settle = |(place, outcome, only_if_expired): &(Place, Outcome, OnlyIfExpired)| {
            let (envelope, token) = self.lease_at(*place)?;
            Some(settlement(
                &envelope,
                token,
                outcome.clone(),
                *only_if_expired,
            ))
        };
        outcomes.iter().filter_map(settle).collect()
    }

    fn lease_at(&self, place: Place) -> Option<(Arc<Envelope>, LeaseToken)> {
        let index = self.leases.len().checked_sub(place + 1)?;
        Some((Arc::clone(&self.leases[index]), LeaseToken(index as u64)))
    }

    fn reclaim(&mut self, limit: usize) -> Answer {
        let mut lost = self.expired(limit);
        lost.sort_by_key(|entry| entry.envelope.task_ref());
        let mut reclaimed = Vec::new();
        for entry in lost {
            if let TaskPlace::Active { token, .. } = entry.place {
                let delay = std::time::Duration::ZERO;
                let outcome = Outcome::Retry { delay };
                let settled = self.settle(&settlement(&entry.envelope, token, outcome, true));
                reclaimed.push((entry.envelope.task_ref(), entry.envelope, settled));
            }
        }
        Answer::Reclaimed(reclaimed)
    }

    pub(in crate::property) fn state(&self) -> State {
        let names = QUEUES.map(Name::from);
        let used = names.iter().zip(self.used).filter(|(_, used)| *used);
        State {
            used: used.map(|(name, _)| name.clone()).collect(),
            queues: (0..QUEUES.len()).map(|queue| self.queue(queue)).collect(),
        }
    }

    fn queue(&self, index: usize) -> QueueState {
        let name = Name::from(QUEUES[index]);
        let (succeeded, failed, lost) = self.attempts[index];
        let mut stats = QueueStats::default();
        stats.succeeded = succeeded;
        stats.failed = failed;
        stats.lost = lost;
        stats.latency = self.latency(&name);
        stats.paused = self.paused[index];
        stats.archive = self.archives[index];
        let (mut lists, mut ends) = (Vec::new(), Vec::new());
        for state in TaskState::ALL {
            let list = self.list(&name, state);
            if !list.is_empty() {
                stats.counts.insert(state, list.len() as u64);
            }
            let finished = |entry: &super::Entry| {
                let end = entry.finished()?;
                Some((entry.envelope.id.clone(), end))
            };
            ends.extend(list.iter().filter_map(finished));
            lists.push((state, list.iter().map(super::Entry::info).collect()));
        }
        QueueState {
            name,
            stats,
            lists,
            ends,
        }
    }
}
