//! Random operations on a broker, each answer compared with that of a model.
//!
//! The [conformance suite](super::conformance) shows one behaviour at a time; this finds what goes wrong between them.
//! The model is a list of tasks, searched from end to end: too slow to be used, and too simple to be wrong. After each
//! operation every task is looked up, every list read and every count compared.
//!
//! ```
//! use asynqueue_core::{MemoryBroker, testing::{TestClock, property}};
//! use proptest::{prelude::*, test_runner::TestRunner};
//! # fn main() {
//!
//! let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
//! TestRunner::default()
//!     .run(&property::operations(20), |operations| {
//!         let clock = TestClock::default();
//!         let broker = MemoryBroker::with_clock(clock.clone()).into();
//!         runtime.block_on(property::check(&broker, &operations, async |by| clock.advance(by)));
//!         Ok(())
//!     })
//!     .expect("the broker does what the model does");
//! # }
//! ```

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod entry;
mod model;
mod operation;

use std::{collections::BTreeMap, time::Duration};

use self::model::Model;
pub use self::operation::{OnlyIfExpired, Operation, operations};
use crate::{
    broker::{
        Keep, Lease, LeaseRequest, LeaseToken, Leased, Outcome, Page, QueueStats, Settlement,
        SharedBroker, TaskInfo,
    },
    task::{Name, TaskState},
};

/// The queues that operations are about.
pub(super) const QUEUES: [&str; 2] = ["left", "right"];

/// How long leases last.
pub(super) const LEASE: Duration = Duration::from_secs(30);

pub(super) const KEEP: Keep = Keep {
    archived_for: Duration::from_secs(100),
    archived_max: 1,
};

/// Applies the operations to the broker, which must be empty, and to the model.
///
/// `advance` moves the broker's clock, which must stand still otherwise, so that every time can be compared to the
/// millisecond.
///
/// # Panics
///
/// When the broker answers, or is left, other than the model.
pub async fn check(
    broker: &SharedBroker,
    operations: &[Operation],
    advance: impl AsyncFn(Duration),
) {
    let mut run = Run {
        broker,
        model: Model::new(broker.now()),
        leases: Vec::new(),
    };
    for operation in operations {
        if let Operation::Advance(by) = operation {
            advance(*by).await;
            run.model.now = broker.now();
        }
        run.apply(operation).await;
        run.compare_states(operation).await;
    }
}

/// A broker and its model, and each lease that both have given, by the order they were given in.
struct Run<'a> {
    broker: &'a SharedBroker,
    model: Model,
    leases: Vec<(Leased, LeaseToken)>,
}

impl Run<'_> {
    async fn apply(&mut self, operation: &Operation) {
        let (broker, model) = (self.broker, &mut self.model);
        let queues = QUEUES.map(Name::from);
        match operation {
            Operation::Enqueue(tasks) => {
                let answers = broker.enqueue(tasks.clone()).await.unwrap();
                assert_eq!(answers, model.enqueue(tasks), "{operation:?}");
            }
            Operation::Lease { caps, max } => self.lease(caps, *max).await,
            Operation::Extend(places, lease) => self.extend(places, *lease).await,
            Operation::Settle(outcomes) => self.settle(outcomes).await,
            Operation::Reclaim(limit) => self.reclaim(*limit).await,
            Operation::Forward(limit) => {
                let forwarded = broker.forward(&queues, *limit).await.unwrap();
                assert_eq!(forwarded, model.forward(*limit), "{operation:?}");
            }
            Operation::Trim => {
                let trimmed = broker.trim(&queues, KEEP, usize::MAX).await.unwrap();
                assert_eq!(trimmed, model.trim(), "{operation:?}");
            }
            Operation::Report(progress) => {
                broker.report(progress.clone()).await.unwrap();
                for (task, progress) in progress {
                    model.report(task, progress);
                }
            }
            Operation::Cancel(tasks) => {
                let answers = broker.cancel(tasks, "why not").await.unwrap();
                assert_eq!(answers, model.cancel(tasks, "why not"), "{operation:?}");
            }
            Operation::Delete(tasks) => {
                assert_eq!(
                    broker.delete(tasks).await.unwrap(),
                    model.delete(tasks),
                    "{operation:?}"
                );
            }
            Operation::RunNow(tasks) => {
                assert_eq!(
                    broker.run_now(tasks).await.unwrap(),
                    model.run_now(tasks),
                    "{operation:?}"
                );
            }
            Operation::Pause(queue, paused) => {
                broker
                    .set_paused(&[queues[*queue].clone()], *paused)
                    .await
                    .unwrap();
                model.paused[*queue] = *paused;
            }
            Operation::Advance(_) => {}
        }
    }

    async fn lease(&mut self, caps: &[(usize, usize)], max: usize) {
        let queues: Vec<_> = caps
            .iter()
            .map(|(queue, cap)| (QUEUES[*queue].into(), *cap))
            .collect();
        let expected = self.model.lease(&queues, max);
        let request = LeaseRequest {
            queues,
            max,
            lease: LEASE,
            worker: "worker".into(),
        };
        let leased = self.broker.lease(&request).await.unwrap();
        let same = leased
            .iter()
            .map(|leased| &leased.envelope)
            .eq(expected.iter().map(|(envelope, _)| envelope));
        assert!(same, "leased {leased:#?}\nexpected {expected:#?}");
        self.leases.extend(
            leased
                .into_iter()
                .zip(expected.into_iter().map(|(_, token)| token)),
        );
    }

    async fn extend(&mut self, places: &[usize], lease: Duration) {
        let chosen = self.chosen(places);
        let leases: Vec<Lease> = chosen.iter().map(|(leased, _)| leased.lease()).collect();
        let expected: Vec<_> = chosen
            .iter()
            .map(|(leased, token)| self.model.extend(leased, *token, lease))
            .collect();
        assert_eq!(
            self.broker.extend(&leases, lease).await.unwrap(),
            expected,
            "{leases:?}"
        );
    }

    async fn settle(&mut self, outcomes: &[(usize, Outcome, OnlyIfExpired)]) {
        let places: Vec<_> = outcomes.iter().map(|(place, ..)| *place).collect();
        let chosen = self.chosen(&places);
        let settlements: Vec<Settlement> = chosen
            .iter()
            .zip(outcomes)
            .map(|((leased, _), (_, outcome, only_if_expired))| {
                operation::settlement(leased, outcome.clone(), *only_if_expired)
            })
            .collect();
        let expected: Vec<_> = settlements
            .iter()
            .zip(&chosen)
            .map(|(settlement, (_, token))| self.model.settle(settlement, *token))
            .collect();
        assert_eq!(
            self.broker.settle(&settlements).await.unwrap(),
            expected,
            "{settlements:#?}"
        );
    }

    /// What a server does with lost leases.
    async fn reclaim(&mut self, limit: usize) {
        let queues = QUEUES.map(Name::from);
        let lost = self.broker.expired(&queues, limit).await.unwrap();
        let (mut ids, mut expected): (Vec<_>, Vec<_>) = (
            lost.iter().map(|lost| lost.envelope.task_ref()).collect(),
            self.model.expired(limit),
        );
        ids.sort();
        expected.sort();
        assert_eq!(ids, expected);
        for lost in lost {
            let given = self
                .leases
                .iter()
                .rev()
                .find(|(leased, _)| leased.lease() == lost.lease());
            let token = given.expect("a lease that was given").1;
            let settlement = operation::settlement(
                &lost,
                Outcome::Retry {
                    delay: Duration::ZERO,
                },
                true,
            );
            let settled = self
                .broker
                .settle(std::slice::from_ref(&settlement))
                .await
                .unwrap();
            assert_eq!(settled, [self.model.settle(&settlement, token)]);
        }
    }

    /// Leases by their places, of which there may be too few.
    fn chosen(&self, places: &[usize]) -> Vec<(Leased, LeaseToken)> {
        let newest_first = |place: &usize| self.leases.iter().rev().nth(*place).cloned();
        places.iter().filter_map(newest_first).collect()
    }

    /// Compares every task, list and count with the model's.
    async fn compare_states(&self, operation: &Operation) {
        let mut known = Vec::new();
        for (index, queue) in QUEUES.map(Name::from).iter().enumerate() {
            let mut counts = BTreeMap::new();
            for state in TaskState::ALL {
                let len = self.compare_list(queue, state, operation).await;
                counts.extend((len > 0).then_some((state, len as u64)));
            }
            let (succeeded, failed) = self.model.attempts[index];
            let expected = QueueStats {
                counts,
                succeeded,
                failed,
                latency: self.model.latency(queue),
                paused: self.model.paused[index],
            };
            let stats = self.broker.stats(std::slice::from_ref(queue)).await;
            assert_eq!(stats.unwrap(), [expected], "{queue} after {operation:?}");
            known.extend(self.model.used[index].then(|| queue.clone()));
        }
        assert_eq!(self.broker.queues().await.unwrap(), known);
    }

    /// Compares one list with the model's, and each task in it with what is told of the task alone.
    async fn compare_list(&self, queue: &Name, state: TaskState, operation: &Operation) -> usize {
        let expected = self.model.list(queue, state);
        let listed = self.list(queue, state).await;
        let (listed_ids, expected_ids): (Vec<_>, Vec<_>) = (
            listed.iter().map(|task| &task.envelope.id).collect(),
            expected.iter().map(|task| &task.envelope.id).collect(),
        );
        assert_eq!(
            listed_ids, expected_ids,
            "{queue}: {state} after {operation:?}"
        );
        for (listed, expected) in listed.iter().zip(&expected) {
            let activity = listed
                .lease
                .as_ref()
                .map(|lease| (lease.until, listed.progress.clone()));
            assert_eq!(
                (&listed.envelope, listed.at, &listed.result, activity),
                (
                    &expected.envelope,
                    expected.at(),
                    &expected.result(),
                    expected.activity()
                ),
                "after {operation:?}"
            );
            let task = listed.envelope.task_ref();
            let alone = self.broker.tasks(std::slice::from_ref(&task)).await;
            assert_eq!(alone.unwrap(), [Some(listed.clone())]);
            if let Some(finished) = expected.finished() {
                assert_eq!(self.broker.finished(&task).await.unwrap(), finished);
            }
        }
        listed.len()
    }

    /// A whole list, in pages that are too small for it.
    async fn list(&self, queue: &Name, state: TaskState) -> Vec<TaskInfo> {
        let mut tasks = Vec::new();
        let mut page = Page {
            after: None,
            limit: 2,
        };
        loop {
            let part = self.broker.list(queue, state, page.clone()).await.unwrap();
            tasks.extend(part.tasks);
            page.after = part.next;
            if page.after.is_none() {
                return tasks;
            }
        }
    }
}
