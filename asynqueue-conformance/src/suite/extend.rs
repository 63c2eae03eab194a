//! Extending leases.

use asynqueue_core::{
    broker::{Extended, Lease, Leased, Outcome, Settled, all_of},
    process::Progress,
    task::Timestamp,
};

use super::{
    Harness,
    fixture::{Fixture, LEASE, QUEUE, complete, other_token, secs, task, task_in, task_ref, tasks},
};

async fn extend(f: &Fixture<'_>, leased: &Leased) -> Extended {
    all_of(f.broker.extend(&[leased.lease()], LEASE).await).unwrap()[0]
}

/// It expires a full lease time after the last extension.
pub async fn an_extended_lease_does_not_expire(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    for _ in 0..5 {
        f.advance(LEASE - secs(5)).await;
        assert_eq!(extend(&f, &leased).await, Extended::Yes);
    }
    f.advance(LEASE - secs(5)).await;
    assert!(
        all_of(f.broker.expired(&[QUEUE.into()], Timestamp::MAX, 10).await)
            .unwrap()
            .concat()
            .is_empty()
    );
    f.advance(secs(10)).await;
    assert_eq!(
        all_of(f.broker.expired(&[QUEUE.into()], Timestamp::MAX, 10).await)
            .unwrap()
            .concat()
            .len(),
        1
    );
}

/// There is nothing left to extend.
pub async fn a_settled_lease_is_lost(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    f.settle(&leased, complete()).await;
    assert_eq!(extend(&f, &leased).await, Extended::Lost);
}

/// The new lease does not change.
pub async fn a_lease_that_another_worker_took_over_is_lost(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let zombie = f.lease_one().await;
    f.settle(&zombie, Outcome::Release).await;
    let current = f.lease_one().await;
    let answers = all_of(
        f.broker
            .extend(&[zombie.lease(), current.lease()], LEASE)
            .await,
    )
    .unwrap();
    assert_eq!(answers, [Extended::Lost, Extended::Yes]);
    assert_eq!(f.settle(&current, complete()).await, Settled::Recorded);
}

/// A late extension is better than a second run.
pub async fn an_expired_lease_that_was_not_reclaimed_can_be_extended(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    f.advance(LEASE * 2).await;
    assert_eq!(extend(&f, &leased).await, Extended::Yes);
    assert!(
        all_of(f.broker.expired(&[QUEUE.into()], Timestamp::MAX, 10).await)
            .unwrap()
            .concat()
            .is_empty()
    );
}

/// A lease may then expire sooner than before.
pub async fn an_extension_counts_from_now(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let lease = f.lease_one().await.lease();
    let shorter = LEASE / 3;
    all_of(f.broker.extend(&[lease], shorter).await).unwrap();
    let left = |until: Timestamp| until.since(f.broker.now());
    let until = f.info("a").await.unwrap().lease.unwrap().until;
    assert!(left(until) <= shorter, "{:?}", left(until));
    f.advance(LEASE / 2).await;
    let expired = all_of(f.broker.expired(&[QUEUE.into()], Timestamp::MAX, 10).await)
        .unwrap()
        .concat();
    assert_eq!(expired.len(), 1);
}

/// Only its expiry changes.
pub async fn an_extended_lease_keeps_its_worker_and_progress(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    let progress = Progress::new(1, 0, "");
    let reported = (leased.lease(), progress.clone());
    f.broker.report(vec![reported]).await.unwrap();
    assert_eq!(extend(&f, &leased).await, Extended::Yes);
    let info = f.info("a").await.unwrap();
    assert_eq!(info.lease.unwrap().worker, "tester");
    assert_eq!(info.progress, Some(progress));
}

/// Each lease separately.
pub async fn extensions_return_results_in_order_over_several_queues(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([task("a"), task_in("other", "b"), task("c")])
        .await;
    let leased = f.lease_from(&[("q", 9), ("other", 9)], 9).await;
    let [a, c, b] = &leased[..] else {
        panic!("three tasks")
    };
    let unknown = Lease {
        task: task_ref("unknown"),
        token: a.token,
    };
    let leases = [
        a.lease(),
        other_token(b).lease(),
        b.lease(),
        unknown,
        c.lease(),
    ];
    use Extended::{Lost, Yes};
    assert_eq!(
        all_of(f.broker.extend(&leases, LEASE).await).unwrap(),
        [Yes, Lost, Yes, Lost, Yes]
    );
}
