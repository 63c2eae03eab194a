//! Leasing tasks to workers.

use std::collections::HashSet;

use asynqueue_core::{
    broker::{Leased, Outcome, all_of},
    task::{TaskState, Timestamp},
};

use super::{
    Harness,
    fixture::{Fixture, LEASE, QUEUE, enqueued_at, ids, prioritised, secs, task, task_in, tasks},
};

/// Without priorities, the oldest goes first.
pub async fn tasks_are_leased_first_in_first_out(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a", "b", "c"])).await;
    assert_eq!(ids(&f.lease(2).await), ["a", "b"]);
    f.enqueue(tasks(["d"])).await;
    assert_eq!(ids(&f.lease(5).await), ["c", "d"]);
}

/// By priority, and first in, first out within a priority.
pub async fn a_higher_priority_goes_first(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([
        task("plain-1"),
        prioritised("low-1", 1),
        prioritised("high-1", 9),
        task("plain-2"),
        prioritised("high-2", 9),
        prioritised("low-2", 1),
    ])
    .await;
    let order = ["high-1", "high-2", "low-1", "low-2", "plain-1", "plain-2"];
    assert_eq!(f.list(TaskState::Pending).await, order);
    assert_eq!(ids(&f.lease(10).await), order);
}

/// The rest stays pending.
pub async fn at_most_max_tasks_are_leased(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a", "b", "c"])).await;
    assert_eq!(ids(&f.lease_from(&[(QUEUE, 5)], 2).await), ["a", "b"]);
    assert!(f.lease(0).await.is_empty());
    f.assert_counts(&[(TaskState::Pending, 1), (TaskState::Active, 2)])
        .await;
}

/// A server divides its capacity among its queues.
pub async fn each_queue_returns_at_most_its_cap_in_the_requested_order(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(["a1", "a2", "a3"].map(|name| task_in("a", name)))
        .await;
    f.enqueue(["b1", "b2", "b3"].map(|name| task_in("b", name)))
        .await;
    assert_eq!(
        ids(&f.lease_from(&[("b", 2), ("a", 9)], 4).await),
        ["b1", "b2", "a1", "a2"]
    );
    assert_eq!(ids(&f.lease_from(&[("b", 9), ("a", 9)], 1).await), ["b3"]);
    assert_eq!(ids(&f.lease_from(&[("b", 9), ("a", 9)], 9).await), ["a3"]);
}

/// By one worker at a time.
pub async fn a_leased_task_is_active_and_is_not_leased_again(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    assert_eq!(ids(&f.lease(5).await), ["a"]);
    assert!(f.lease(5).await.is_empty());
    let info = f.info("a").await.unwrap();
    assert_eq!(info.state, TaskState::Active);
    assert_eq!(info.lease.unwrap().worker, "tester");
}

/// Also for successive leases of the same task.
pub async fn every_lease_has_a_unique_token(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let mut tokens = HashSet::new();
    for _ in 0..10 {
        let leased = f.lease_one().await;
        assert!(tokens.insert(leased.token), "{:?} again", leased.token);
        f.settle(&leased, asynqueue_core::broker::Outcome::Release)
            .await;
    }
}

/// Leased tasks continue.
pub async fn a_paused_queue_returns_nothing(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a", "b"])).await;
    let leased = f.lease_one().await;
    f.broker.set_paused(&[QUEUE.into()], true).await.unwrap();
    assert!(f.stats().await.paused);
    assert!(f.lease(5).await.is_empty());
    assert_eq!(
        f.settle(&leased, super::fixture::complete()).await,
        asynqueue_core::broker::Settled::Recorded
    );
    f.broker.set_paused(&[QUEUE.into()], false).await.unwrap();
    assert_eq!(ids(&f.lease(5).await), ["b"]);
}

/// It is empty without an error.
pub async fn an_unknown_queue_returns_nothing(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    assert!(f.lease_from(&[("nowhere", 5)], 5).await.is_empty());
}

/// A worker can then compute the time to a deadline without its own clock.
pub async fn a_lease_contains_the_brokers_time(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a", "b"])).await;
    let first = f.lease_one().await;
    f.advance(super::fixture::secs(100)).await;
    let second = f.lease_one().await;
    let apart = second.now.since(first.now);
    assert!(
        apart >= super::fixture::secs(100) && apart < super::fixture::secs(160),
        "{apart:?}"
    );
}

/// Regardless of the rest of the queue.
pub async fn only_pending_tasks_are_leased(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.fill().await;
    assert_eq!(ids(&f.lease(9).await), ["pending"]);
}

/// From the time in the response.
pub async fn a_lease_lasts_for_the_requested_time(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    let until = f.info("a").await.unwrap().lease.unwrap().until;
    assert_eq!(until, leased.now + LEASE);
}

/// A server continues with its other queues.
pub async fn a_paused_queue_does_not_delay_the_others(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([task_in("paused", "a"), task("b")]).await;
    f.broker.set_paused(&["paused".into()], true).await.unwrap();
    let leased = f.lease_from(&[("paused", 5), (QUEUE, 5)], 5).await;
    assert_eq!(ids(&leased), ["b"]);
}

/// Since it was accepted, due, released or retried immediately: the start of its time in the queue.
pub async fn a_lease_reports_since_when_its_task_was_pending(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let pending_since = |leased: &Leased| leased.pending_since.expect("known");
    let is_about = |since: Timestamp, expected: Timestamp| {
        let apart = since.since(expected).max(expected.since(since));
        assert!(apart <= secs(1), "{since:?} and not {expected:?}");
    };
    let accepted = f.broker.now();
    f.enqueue([enqueued_at("plain", accepted)]).await;
    f.enqueue_after(enqueued_at("delayed", accepted), secs(20))
        .await;
    f.advance(secs(30)).await;
    is_about(pending_since(&f.lease_one().await), accepted);

    let forwarded = f.broker.now();
    all_of(f.broker.forward(&[QUEUE.into()], 10).await).unwrap();
    f.advance(secs(10)).await;
    let delayed = f.lease_one().await;
    is_about(pending_since(&delayed), forwarded);

    let released = f.broker.now();
    f.settle(&delayed, Outcome::Release).await;
    f.advance(secs(10)).await;
    let again = f.lease_one().await;
    is_about(pending_since(&again), released);

    let failed = f.broker.now();
    let delay = secs(0);
    f.fail(&again, Outcome::Retry { delay }).await;
    f.enqueue([enqueued_at("another", failed)]).await;
    f.advance(secs(10)).await;
    let both = f.lease(2).await;
    assert_eq!(both.len(), 2);
    both.iter()
        .for_each(|leased| is_about(pending_since(leased), failed));
}
