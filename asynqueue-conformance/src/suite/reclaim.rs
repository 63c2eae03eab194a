//! Reclaiming tasks from lost workers.

use asynqueue_core::{
    broker::{HourStats, Keep, Leased, Outcome, Settled, Settlement, all_of},
    task::{Name, TaskState, Timestamp},
};

use super::{
    Harness,
    fixture::{Fixture, LEASE, QUEUE, complete, failed, secs, task, task_in, task_ref, tasks},
};

async fn expired(f: &Fixture<'_>, limit: usize) -> Vec<Leased> {
    all_of(
        f.broker
            .expired(&[QUEUE.into()], Timestamp::MAX, limit)
            .await,
    )
    .unwrap()
    .concat()
}

/// Once it has expired, and not before.
pub async fn an_expired_lease_is_listed_with_its_token(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a", "b"])).await;
    let leased = f.lease_one().await;
    f.advance(LEASE - secs(5)).await;
    assert!(expired(&f, 10).await.is_empty());
    f.advance(secs(10)).await;
    let lost = expired(&f, 10).await;
    assert_eq!(
        lost.iter().map(Leased::lease).collect::<Vec<_>>(),
        [leased.lease()]
    );
    assert_eq!(lost[0].envelope, leased.envelope);
    assert!(lost[0].now.since(leased.now) >= LEASE, "the time it is now");
    assert_eq!(
        f.state("a").await,
        Some(TaskState::Active),
        "listing changes nothing"
    );
}

/// The second outcome is refused, so that the attempt is counted once.
pub async fn the_first_of_two_reclaims_wins(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    f.lease_one().await;
    f.advance(LEASE * 2).await;
    let (first, second) = (
        expired(&f, 10).await.remove(0),
        expired(&f, 10).await.remove(0),
    );
    let again = Outcome::Retry { delay: secs(0) };
    assert_eq!(
        f.settle_as(&first, failed(&first.envelope), again.clone())
            .await,
        Settled::Recorded
    );
    assert_eq!(
        f.settle_as(&second, failed(&second.envelope), again).await,
        Settled::Stale
    );
    assert_eq!(f.lease_one().await.envelope.attempts, 1);
}

/// The loss of a large fleet is handled in steps.
pub async fn at_most_limit_lost_leases_are_listed(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue((0..10).map(|n| task(&n.to_string()))).await;
    f.lease(10).await;
    f.advance(LEASE * 2).await;
    assert_eq!(expired(&f, 4).await.len(), 4);
    assert_eq!(expired(&f, 40).await.len(), 10);
}

/// A worker that was considered lost and returns changes nothing.
pub async fn a_reclaimed_task_is_leased_again_and_its_old_worker_is_refused(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let zombie = f.lease_one().await;
    f.advance(LEASE * 2).await;
    let lost = expired(&f, 10).await.remove(0);
    f.settle_as(
        &lost,
        failed(&lost.envelope),
        Outcome::Retry { delay: secs(0) },
    )
    .await;
    let current = f.lease_one().await;
    assert_ne!(current.token, zombie.token);
    assert_eq!(f.settle(&zombie, complete()).await, Settled::Stale);
    assert_eq!(f.settle(&current, complete()).await, Settled::Recorded);
}

/// Pausing stops future leases, not existing ones.
pub async fn lost_leases_of_a_paused_queue_are_listed(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    f.broker.set_paused(&[QUEUE.into()], true).await.unwrap();
    f.advance(LEASE * 2).await;
    let lost = expired(&f, 10).await;
    assert_eq!(lost[0].lease(), leased.lease());
}

/// Each queue has its own limit.
pub async fn lost_leases_of_the_requested_queues_are_listed(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(["a1", "a2"].map(|name| task_in("a", name))).await;
    f.enqueue(["b1", "b2"].map(|name| task_in("b", name))).await;
    f.lease_from(&[("a", 9), ("b", 9)], 9).await;
    f.advance(LEASE * 2).await;
    let both = ["a", "b"].map(Name::from);
    let lost = all_of(f.broker.expired(&both[1..], Timestamp::MAX, 9).await)
        .unwrap()
        .concat();
    assert!(lost.len() == 2 && lost.iter().all(|lost| lost.envelope.queue == "b"));
    assert_eq!(
        all_of(f.broker.expired(&both, Timestamp::MAX, 1).await)
            .unwrap()
            .concat()
            .len(),
        2
    );
    assert_eq!(
        all_of(f.broker.expired(&both, Timestamp::MAX, 9).await)
            .unwrap()
            .concat()
            .len(),
        4
    );
}

/// A worker that died is not a failure of a handler.
pub async fn a_reclaimed_attempt_counts_as_lost(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["retried", "archived", "cancelled", "dropped"]))
        .await;
    f.lease(4).await;
    f.broker
        .cancel(&[task_ref("cancelled")], "by hand")
        .await
        .unwrap();
    f.advance(LEASE * 2).await;
    let again = Outcome::Retry { delay: secs(0) };
    let reclaims: Vec<_> = expired(&f, 10)
        .await
        .into_iter()
        .map(|lost| {
            let outcome = match lost.envelope.id.as_str() {
                "archived" => Outcome::Archive,
                "dropped" => Outcome::Drop,
                _ => again.clone(),
            };
            Settlement {
                envelope: failed(&lost.envelope),
                only_if_expired: true,
                ..lost.settle(outcome)
            }
        })
        .collect();
    let settled = all_of(f.broker.settle(&reclaims).await).unwrap();
    assert!(!settled.contains(&Settled::Stale), "{settled:?}");
    // A failure beside them, and a repetition that is refused.
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Archive).await;
    let settled = all_of(f.broker.settle(&reclaims).await).unwrap();
    assert_eq!(settled, [Settled::Stale; 4]);
    let stats = f.stats().await;
    assert_eq!((stats.succeeded, stats.failed, stats.lost), (0, 1, 3));
    let hours = f
        .broker
        .history(&[QUEUE.into()], Timestamp::default())
        .await;
    let mut sum = HourStats::default();
    hours.unwrap()[0].iter().for_each(|hour| sum.add(hour));
    assert_eq!((sum.succeeded, sum.failed, sum.lost), (0, 1, 3));
}

/// An hour with nothing but losses is an hour with attempts.
pub async fn an_hour_with_only_lost_attempts_is_listed(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    f.lease_one().await;
    f.advance(LEASE * 2).await;
    let lost = expired(&f, 1).await.remove(0);
    let reclaim = Settlement {
        only_if_expired: true,
        ..lost.settle(Outcome::Archive)
    };
    all_of(f.broker.settle(&[reclaim]).await).unwrap();
    let hours = async || {
        let all = f
            .broker
            .history(&[QUEUE.into()], Timestamp::default())
            .await;
        all.unwrap().remove(0)
    };
    let listed = hours().await;
    let counts = listed
        .iter()
        .map(|hour| (hour.succeeded, hour.failed, hour.lost));
    assert_eq!(counts.collect::<Vec<_>>(), [(0, 0, 1)]);
    // A store may add up its counts when it trims.
    f.trim(Keep::default(), 10).await;
    assert_eq!(hours().await, listed);
    assert_eq!(f.stats().await.lost, 1);
}

/// The worker was slow, not lost: it continues, and no other worker gets its task.
pub async fn a_lease_that_is_extended_in_time_is_not_reclaimed(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let slow = f.lease_one().await;
    f.advance(LEASE * 2).await;
    let lost = expired(&f, 10).await.remove(0);
    all_of(f.broker.extend(&[slow.lease()], LEASE).await).unwrap();
    let reclaim = Settlement {
        only_if_expired: true,
        ..lost.settle(Outcome::Retry { delay: secs(0) })
    };
    assert_eq!(
        all_of(f.broker.settle(std::slice::from_ref(&reclaim)).await).unwrap(),
        [Settled::Stale]
    );
    assert_eq!(f.state("a").await, Some(TaskState::Active));
    f.advance(LEASE * 2).await;
    assert_eq!(
        all_of(f.broker.settle(&[reclaim]).await).unwrap(),
        [Settled::Recorded]
    );
    assert_eq!(f.settle(&slow, complete()).await, Settled::Stale);
}
