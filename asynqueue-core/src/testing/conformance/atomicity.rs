//! Many at once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::task::JoinSet;

use super::{
    Harness,
    fixture::{Fixture, LEASE, QUEUE, complete, failed, now, task, task_ref},
};
use crate::{
    broker::{CancelOutcome, LeaseRequest, Outcome, Settled, Settlement, SharedBroker},
    task::TaskState,
};

const WORKERS: usize = 6;

fn request(max: usize) -> LeaseRequest {
    LeaseRequest {
        queues: vec![(QUEUE.into(), max)],
        max,
        lease: LEASE,
        worker: "racer".into(),
    }
}

/// Producers and workers side by side; a third of the tasks fail once, a third are given back once.
pub async fn every_task_is_settled_once_among_racing_workers(harness: &dyn Harness) {
    const TASKS: usize = 600;
    let f = Fixture::new(harness).await;
    let completed = Arc::new(Mutex::new(BTreeMap::new()));
    let mut racers = JoinSet::new();
    for worker in 0..WORKERS {
        let (broker, completed) = (Arc::clone(&f.broker), Arc::clone(&completed));
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
            while completed.lock().unwrap().len() < TASKS {
                work(&broker, &completed).await;
                tokio::task::yield_now().await;
            }
        });
    }
    racers.join_all().await;
    assert!(completed.lock().unwrap().values().all(|times| *times == 1));
    f.assert_counts(&[]).await;
    assert_eq!(f.stats().await.succeeded, TASKS as u64);
}

async fn work(broker: &SharedBroker, completed: &Mutex<BTreeMap<String, usize>>) {
    let leased = broker.lease(&request(5)).await.unwrap();
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
                    let (envelope, token) = (failed(&leased.envelope), leased.token);
                    Settlement {
                        envelope,
                        token,
                        outcome: Outcome::Retry {
                            delay: std::time::Duration::ZERO,
                        },
                    }
                }
                (1, _) if leased.token.0.is_multiple_of(2) => leased.settle(Outcome::Release),
                _ => leased.settle(complete()),
            }
        })
        .collect();
    let settled = broker.settle(&settlements).await.unwrap();
    for (settlement, settled) in settlements.iter().zip(settled) {
        assert_eq!(settled, Settled::Recorded);
        if settlement.outcome == complete() {
            *completed
                .lock()
                .unwrap()
                .entry(settlement.envelope.id.to_string())
                .or_default() += 1;
        }
    }
}

/// A task is either cancelled while it waits, or leased and told.
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

/// The others are told who has it.
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
