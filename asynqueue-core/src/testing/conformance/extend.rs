//! Keeping leases alive.

use super::{
    Harness,
    fixture::{Fixture, LEASE, QUEUE, complete, secs, tasks},
};
use crate::broker::{Extended, Leased, Outcome, Settled};

async fn extend(f: &Fixture<'_>, leased: &Leased) -> Extended {
    f.broker.extend(&[leased.lease()], LEASE).await.unwrap()[0]
}

/// It ends a whole lease after it was last extended.
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
        f.broker
            .expired(&[QUEUE.into()], 10)
            .await
            .unwrap()
            .is_empty()
    );
    f.advance(secs(10)).await;
    assert_eq!(
        f.broker.expired(&[QUEUE.into()], 10).await.unwrap().len(),
        1
    );
}

/// There is nothing left to extend.
pub async fn a_lease_that_was_settled_is_lost(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    f.settle(&leased, complete()).await;
    assert_eq!(extend(&f, &leased).await, Extended::Lost);
}

/// The new lease is not touched.
pub async fn a_lease_that_passed_to_another_is_lost(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let zombie = f.lease_one().await;
    f.settle(&zombie, Outcome::Release).await;
    let current = f.lease_one().await;
    let answers = f
        .broker
        .extend(&[zombie.lease(), current.lease()], LEASE)
        .await
        .unwrap();
    assert_eq!(answers, [Extended::Lost, Extended::Yes]);
    assert_eq!(f.settle(&current, complete()).await, Settled::Recorded);
}

/// Late is better than twice.
pub async fn an_expired_lease_that_nobody_took_can_be_extended(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    f.advance(LEASE * 2).await;
    assert_eq!(extend(&f, &leased).await, Extended::Yes);
    assert!(
        f.broker
            .expired(&[QUEUE.into()], 10)
            .await
            .unwrap()
            .is_empty()
    );
}
