//! Concurrent calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use asynqueue_core::{
    broker::{CancelOutcome, LeaseRequest, Outcome, Settled, Settlement, SharedBroker, all_of},
    task::{TaskId, TaskState, Timestamp, UniqueUntil},
};
use tokio::{sync::Barrier, task::JoinSet};

use super::{
    Harness,
    fixture::{Fixture, LEASE, QUEUE, complete, failed, now, task, task_ref, unique},
};

const WORKERS: usize = 6;

fn request(max: usize) -> LeaseRequest {
    LeaseRequest::new(vec![(QUEUE.into(), max)], max, LEASE, "racer".into())
}

/// Producers and workers run concurrently. A third of the tasks fail once, a third are released once.
pub async fn every_task_is_settled_once_among_racing_workers(harness: &dyn Harness) {
    const TASKS: usize = 600;
    let f = Fixture::new(harness).await;
    let race = Arc::new(Race::default());
    let mut racers = JoinSet::new();
    for worker in 0..WORKERS {
        let (broker, race) = (Arc::clone(&f.broker), Arc::clone(&race));
        racers.spawn(async move {
            let names = (0..TASKS / WORKERS).map(|n| format!("{worker}-{n}"));
            for batch in names.collect::<Vec<_>>().chunks(7) {
                let batch = batch.iter().map(|name| now(task(name))).collect();
                assert!(
                    broker
                        .enqueue(batch)
                        .await
                        .unwrap()
                        .iter()
                        .all(Result::is_ok)
                );
            }
            while race.completed.lock().unwrap().len() < TASKS {
                work(&broker, &race).await;
                tokio::task::yield_now().await;
            }
        });
    }
    racers.join_all().await;
    let completed = std::mem::take(&mut *race.completed.lock().unwrap());
    assert!(completed.values().all(|times| *times == 1));
    f.assert_counts(&[]).await;
    assert_eq!(f.stats().await.succeeded, TASKS as u64);
}

#[derive(Default)]
struct Race {
    released: Mutex<BTreeSet<TaskId>>,
    /// How often each task was completed.
    completed: Mutex<BTreeMap<TaskId, usize>>,
}

impl Race {
    /// Whether the task is released, which each is once.
    fn releases(&self, id: &TaskId) -> bool {
        self.released.lock().unwrap().insert(id.clone())
    }
}

async fn work(broker: &SharedBroker, race: &Race) {
    let leased = all_of(broker.lease(&request(5)).await).unwrap().concat();
    let settlements: Vec<_> = leased
        .into_iter()
        .map(|leased| {
            let kind = leased
                .envelope
                .id
                .as_str()
                .bytes()
                .map(usize::from)
                .sum::<usize>()
                % 3;
            match (kind, leased.envelope.attempts) {
                (0, 0) => {
                    let envelope = failed(&leased.envelope);
                    let delay = std::time::Duration::ZERO;
                    Settlement {
                        envelope,
                        ..leased.settle(Outcome::Retry { delay })
                    }
                }
                (1, _) if race.releases(&leased.envelope.id) => leased.settle(Outcome::Release),
                _ => leased.settle(complete()),
            }
        })
        .collect();
    let settled = all_of(broker.settle(&settlements).await).unwrap();
    for (settlement, settled) in settlements.iter().zip(settled) {
        assert_eq!(settled, Settled::Recorded);
        if settlement.outcome == complete() {
            let mut completed = race.completed.lock().unwrap();
            *completed.entry(settlement.envelope.id.clone()).or_default() += 1;
        }
    }
}

/// A task is either cancelled while it waits, or leased and its worker notified.
pub async fn a_racing_cancel_and_lease_leave_one_winner(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    for round in 0..50 {
        let name = format!("task-{round}");
        f.enqueue([task(&name)]).await;
        let (broker, target) = (Arc::clone(&f.broker), task_ref(&name));
        let cancelling =
            tokio::spawn(async move { broker.cancel(&[target], "race").await.unwrap()[0] });
        let leased = f.lease(1).await;
        let cancelled = cancelling.await.unwrap();
        match leased.first() {
            None => assert_eq!(cancelled, CancelOutcome::Cancelled),
            Some(leased) => {
                assert_eq!(cancelled, CancelOutcome::Requested);
                f.settle(leased, Outcome::Release).await;
            }
        }
        assert_eq!(f.state(&name).await, Some(TaskState::Archived));
    }
}

/// The others receive the state of the task with the id.
pub async fn racing_enqueues_of_an_id_accept_one(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut racers = JoinSet::new();
    for _ in 0..WORKERS {
        let broker = Arc::clone(&f.broker);
        racers.spawn(async move {
            broker
                .enqueue(vec![now(task("a"))])
                .await
                .unwrap()
                .remove(0)
        });
    }
    let accepted = racers
        .join_all()
        .await
        .into_iter()
        .filter(Result::is_ok)
        .count();
    assert_eq!(accepted, 1);
    f.assert_counts(&[(TaskState::Pending, 1)]).await;
}

/// The others are refused, and the outcome counts once.
pub async fn racing_outcomes_of_a_lease_record_one(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    for round in 1..=30 {
        f.enqueue([task("a")]).await;
        let leased = f.lease_one().await;
        let settled = race(|racer| {
            let outcome = [complete(), Outcome::Drop][racer % 2].clone();
            let (broker, settlement) = (Arc::clone(&f.broker), leased.clone().settle(outcome));
            async move { all_of(broker.settle(&[settlement]).await).unwrap()[0] }
        })
        .await;
        let recorded = |settled: &&Settled| **settled == Settled::Recorded;
        assert_eq!(settled.iter().filter(recorded).count(), 1);
        f.assert_counts(&[]).await;
        assert!(f.stats().await.succeeded <= round);
    }
}

/// As with an id.
pub async fn racing_enqueues_of_a_key_accept_one(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let accepted = race(|racer| {
        let task = unique(&racer.to_string(), UniqueUntil::Success, LEASE);
        let broker = Arc::clone(&f.broker);
        async move { broker.enqueue(vec![now(task)]).await.unwrap().remove(0) }
    })
    .await;
    assert_eq!(accepted.iter().filter(|answer| answer.is_ok()).count(), 1);
    f.assert_counts(&[(TaskState::Pending, 1)]).await;
}

/// Every server forwards, sometimes at the same time.
pub async fn racing_forwards_move_each_task_once(harness: &dyn Harness) {
    const TASKS: usize = 100;
    let f = Fixture::new(harness).await;
    for n in 0..TASKS {
        f.enqueue_after(task(&n.to_string()), LEASE).await;
    }
    f.advance(LEASE * 2).await;
    let moved = race(|_| {
        let broker = Arc::clone(&f.broker);
        async move {
            let mut moved = 0;
            loop {
                match all_of(broker.forward(&[QUEUE.into()], 7).await).unwrap()[0].moved {
                    0 => return moved,
                    more => moved += more,
                }
            }
        }
    })
    .await;
    assert_eq!(moved.iter().sum::<usize>(), TASKS);
    assert_eq!(f.lease(TASKS * 2).await.len(), TASKS);
}

/// A task is deleted before a worker leases it, or not at all.
pub async fn a_racing_delete_and_lease_leave_one_winner(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    for round in 0..50 {
        let name = format!("task-{round}");
        f.enqueue([task(&name)]).await;
        let (broker, target) = (Arc::clone(&f.broker), task_ref(&name));
        let deleting = tokio::spawn(async move { broker.delete(&[target]).await.unwrap()[0] });
        let leased = f.lease(1).await;
        assert_eq!(deleting.await.unwrap(), leased.is_empty());
        for leased in leased {
            assert_eq!(f.settle(&leased, complete()).await, Settled::Recorded);
        }
        f.assert_counts(&[]).await;
    }
}

/// Only one of a late worker and the servers that reclaim its task records an outcome.
pub async fn a_late_worker_and_racing_reclaims_leave_one_winner(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    for _ in 0..20 {
        f.enqueue([task("a")]).await;
        let leased = f.lease_one().await;
        f.advance(LEASE * 2).await;
        let settled = race(|racer| {
            let (broker, late) = (Arc::clone(&f.broker), leased.clone());
            async move {
                let settlement = if racer == 0 {
                    late.settle(complete())
                } else {
                    let lost = all_of(broker.expired(&[QUEUE.into()], Timestamp::MAX, 1).await)
                        .unwrap()
                        .concat()
                        .pop();
                    let Some(lost) = lost else { return false };
                    let envelope = failed(&lost.envelope);
                    let delay = std::time::Duration::ZERO;
                    Settlement {
                        envelope,
                        ..lost.settle(Outcome::Retry { delay })
                    }
                };
                all_of(broker.settle(&[settlement]).await).unwrap() == [Settled::Recorded]
            }
        })
        .await;
        assert_eq!(settled.iter().filter(|recorded| **recorded).count(), 1);
        for again in f.lease(9).await {
            assert_eq!(again.envelope.attempts, 1);
            f.settle(&again, complete()).await;
        }
        f.assert_counts(&[]).await;
    }
}

/// A task is never in no state or in two.
pub async fn a_moving_task_is_always_in_one_state(harness: &dyn Harness) {
    const TASKS: usize = 20;
    let f = Fixture::new(harness).await;
    f.enqueue((0..TASKS).map(|n| task(&n.to_string()))).await;
    let refs: Vec<_> = (0..TASKS).map(|n| task_ref(&n.to_string())).collect();
    let mut movers = JoinSet::new();
    for _ in 0..WORKERS {
        let broker = Arc::clone(&f.broker);
        movers.spawn(async move {
            for _ in 0..50 {
                let leased = all_of(broker.lease(&request(5)).await).unwrap().concat();
                let outcomes = [
                    Outcome::Release,
                    Outcome::Archive,
                    Outcome::Snooze { delay: LEASE },
                ];
                let settlements: Vec<_> = (leased.into_iter().zip(outcomes.iter().cycle()))
                    .map(|(leased, outcome)| leased.settle(outcome.clone()))
                    .collect();
                all_of(broker.settle(&settlements).await).unwrap();
                let moved: Vec<_> = settlements
                    .iter()
                    .map(|settlement| settlement.envelope.task_ref())
                    .collect();
                broker.run_now(&moved).await.unwrap();
            }
        });
    }
    while !movers.is_empty() {
        assert_eq!(f.stats().await.total(), TASKS as u64);
        let found = f.broker.tasks(&refs).await.unwrap();
        assert!(found.iter().all(Option::is_some), "{found:?}");
        while let Some(moved) = movers.try_join_next() {
            moved.unwrap();
        }
        tokio::task::yield_now().await;
    }
}

/// Runs one call per worker concurrently, and returns all results.
async fn race<T, R>(racer: impl Fn(usize) -> R) -> Vec<T>
where
    T: Send + 'static,
    R: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(WORKERS));
    let mut racers = JoinSet::new();
    for n in 0..WORKERS {
        let (start, racer) = (Arc::clone(&start), racer(n));
        racers.spawn(async move {
            start.wait().await;
            racer.await
        });
    }
    racers.join_all().await
}
