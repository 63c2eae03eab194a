//! Recording what came of a lease.

use std::sync::Arc;

use super::{
    Harness,
    fixture::{
        Fixture, LEASE, complete, failed, ids, other_token, prioritised, secs, task, task_in,
        task_ref, tasks,
    },
};
use crate::{
    broker::{Leased, Outcome, Settled},
    task::{FailureKind, TaskState},
};

/// Nothing of it is left.
pub async fn a_completed_task_without_retention_is_gone(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    assert_eq!(f.settle(&leased, complete()).await, Settled::Recorded);
    assert_eq!(f.info("a").await, None);
    f.assert_counts(&[]).await;
    assert_eq!(f.stats().await.succeeded, 1);
    f.enqueue(tasks(["a"])).await;
}

/// The broker keeps the envelope that comes with the outcome.
pub async fn a_failed_task_waits_for_its_retry_with_its_failures(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    assert_eq!(
        f.fail(&leased, Outcome::Retry { delay: secs(10) }).await,
        Settled::Recorded
    );
    let info = f.info("a").await.unwrap();
    assert_eq!(info.state, TaskState::Retry);
    let due = info.at.unwrap().since(f.broker.now());
    assert!(due <= secs(10) && due > secs(5), "{due:?}");
    assert_eq!(
        (info.envelope.attempts, info.envelope.failures()),
        (1, failed(&leased.envelope).failures())
    );
    assert!(f.lease(1).await.is_empty());
    assert_eq!(f.stats().await.failed, 1);
}

/// Its lease was wait enough.
pub async fn a_retry_without_delay_is_pending_at_once(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a", "b"])).await;
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Retry { delay: secs(0) }).await;
    assert_eq!(f.list(TaskState::Pending).await, ["b", "a"]);
    assert_eq!(f.lease(2).await[1].envelope.attempts, 1);
}

/// It goes on later, as if it had not been leased.
pub async fn a_snoozed_task_is_scheduled_and_has_not_failed(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    f.settle(&leased, Outcome::Snooze { delay: secs(10) }).await;
    assert_eq!(f.state("a").await, Some(TaskState::Scheduled));
    let stats = f.stats().await;
    assert_eq!((stats.failed, stats.succeeded), (0, 0));
}

/// In the order it had, and without a trace.
pub async fn a_released_task_goes_to_the_front_untouched(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a", "b"])).await;
    let leased = f.lease_one().await;
    f.settle(&leased, Outcome::Release).await;
    assert_eq!(f.list(TaskState::Pending).await, ["a", "b"]);
    let stats = f.stats().await;
    assert_eq!((stats.failed, stats.succeeded), (0, 0));
    assert_eq!(f.lease_one().await.envelope.attempts, 0);
}

/// The front of those of its priority.
pub async fn released_tasks_keep_their_priority(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([
        task("plain"),
        prioritised("high", 9),
        prioritised("low-1", 2),
        prioritised("low-2", 2),
    ])
    .await;
    let leased = f.lease(3).await;
    for leased in leased.iter().rev() {
        f.settle(leased, Outcome::Release).await;
    }
    assert_eq!(ids(&f.lease(9).await), ["high", "low-1", "low-2", "plain"]);
}

/// Until it is trimmed, or someone runs it again.
pub async fn an_archived_task_is_kept_with_its_reason(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Archive).await;
    let info = f.info("a").await.unwrap();
    assert_eq!(info.state, TaskState::Archived);
    let last = info.envelope.last_failure().unwrap();
    assert_eq!(
        (last.kind, last.message.as_str()),
        (FailureKind::Error, "no luck")
    );
    assert_eq!(f.stats().await.failed, 1);
}

/// As its process asked.
pub async fn a_dropped_task_is_gone(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    f.settle(&leased, Outcome::Drop).await;
    assert_eq!(f.info("a").await, None);
}

/// Sending it again, as after a lost connection, is safe.
pub async fn an_outcome_counts_once(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    assert_eq!(
        f.fail(&leased, Outcome::Retry { delay: secs(1) }).await,
        Settled::Recorded
    );
    assert_eq!(
        f.fail(&leased, Outcome::Retry { delay: secs(1) }).await,
        Settled::Stale
    );
    assert_eq!(f.settle(&leased, complete()).await, Settled::Stale);
    f.assert_counts(&[(TaskState::Retry, 1)]).await;
    assert_eq!(f.stats().await.failed, 1);
}

/// A worker whose lease ran out can't settle the task that another has.
pub async fn an_outcome_under_an_old_token_is_refused(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let zombie = f.lease_one().await;
    f.settle(&zombie, Outcome::Release).await;
    let current = f.lease_one().await;
    for outcome in [
        complete(),
        Outcome::Archive,
        Outcome::Drop,
        Outcome::Release,
        Outcome::Retry { delay: secs(1) },
    ] {
        assert_eq!(f.settle(&zombie, outcome.clone()).await, Settled::Stale);
        assert_eq!(
            f.settle(&other_token(&current), outcome).await,
            Settled::Stale
        );
    }
    assert_eq!(f.state("a").await, Some(TaskState::Active));
    assert_eq!(f.settle(&current, complete()).await, Settled::Recorded);
}

/// It may have been deleted long ago.
pub async fn an_outcome_for_an_unknown_task_is_refused(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    let unknown = Leased {
        envelope: Arc::new(task("unknown")),
        ..leased
    };
    assert_eq!(f.settle(&unknown, complete()).await, Settled::Stale);
    assert_eq!(f.info("unknown").await, None);
}

/// Late is better than twice.
pub async fn an_expired_lease_that_nobody_took_can_be_settled(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    f.advance(LEASE * 2).await;
    assert_eq!(f.settle(&leased, complete()).await, Settled::Recorded);
}

/// Each outcome by itself: one that is refused does not keep the others out.
pub async fn a_batch_is_answered_in_order_over_several_queues(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let other = task_in("other", "b");
    f.enqueue([task("a"), other, task("c")]).await;
    let leased = f.lease_from(&[("q", 9), ("other", 9)], 9).await;
    let [a, c, b] = &leased[..] else {
        panic!("three tasks")
    };
    let batch = [
        a.clone().settle(complete()),
        other_token(b).settle(complete()),
        b.clone().settle(Outcome::Archive),
        c.clone().settle(Outcome::Release),
        a.clone().settle(complete()),
    ];
    use Settled::{Recorded, Stale};
    assert_eq!(
        f.broker.settle(&batch).await.unwrap(),
        [Recorded, Stale, Recorded, Recorded, Stale]
    );
    assert_eq!(
        f.broker
            .tasks(&[task_ref("a"), task_ref("c")])
            .await
            .unwrap()[0],
        None
    );
    assert_eq!(f.state("c").await, Some(TaskState::Pending));
}
