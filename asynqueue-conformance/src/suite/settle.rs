//! Recording outcomes of leases.

use std::sync::Arc;

use asynqueue_core::{
    broker::{Leased, Outcome, Settled, all_of},
    task::{FailureKind, TaskRef, TaskState},
};

use super::{
    Harness,
    fixture::{
        Fixture, LEASE, complete, failed, id, ids, other_token, prioritised, retained, secs, task,
        task_in, tasks,
    },
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

/// The broker stores the envelope of the outcome.
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

/// It does not wait for forwarding.
pub async fn a_retry_without_delay_is_pending_immediately(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a", "b"])).await;
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Retry { delay: secs(0) }).await;
    assert_eq!(f.list(TaskState::Pending).await, ["b", "a"]);
    assert_eq!(f.lease(2).await[1].envelope.attempts, 1);
}

/// It runs again later, as if it had not been leased.
pub async fn a_snoozed_task_is_scheduled_and_has_not_failed(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    f.settle(&leased, Outcome::Snooze { delay: secs(10) }).await;
    assert_eq!(f.state("a").await, Some(TaskState::Scheduled));
    let stats = f.stats().await;
    assert_eq!((stats.failed, stats.succeeded), (0, 0));
}

/// A server notes on a task why it releases it.
pub async fn a_snoozed_task_keeps_the_note_of_its_server(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let mut leased = f.lease_one().await;
    let since = f.broker.now();
    let task = Arc::make_mut(&mut leased.envelope);
    task.set_unhandled_since(Some(since));
    task.set_place(Some(42));
    let delay = secs(10);
    f.settle(&leased, Outcome::Snooze { delay }).await;
    let task = f.info("a").await.unwrap().envelope;
    assert_eq!(
        (task.unhandled_since(), task.place()),
        (Some(since), Some(42))
    );
}

/// In its original order, and without a trace.
pub async fn a_released_task_returns_to_the_front_unchanged(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a", "b"])).await;
    let leased = f.lease_one().await;
    f.settle(&leased, Outcome::Release).await;
    assert_eq!(f.list(TaskState::Pending).await, ["a", "b"]);
    let stats = f.stats().await;
    assert_eq!((stats.failed, stats.succeeded), (0, 0));
    assert_eq!(f.lease_one().await.envelope.attempts, 0);
}

/// They return to the front of their priority.
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

/// Until it is trimmed, or a user runs it again.
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

/// As its handler requested.
pub async fn a_revoked_task_is_gone(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    f.settle(&leased, Outcome::Drop).await;
    assert_eq!(f.info("a").await, None);
}

/// Sending it again, for example after a lost connection, is safe.
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

/// A worker whose lease has expired cannot settle a task that another one has.
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
    let unknown = Leased::new(Arc::new(task("unknown")), leased.token, leased.now);
    assert_eq!(f.settle(&unknown, complete()).await, Settled::Stale);
    assert_eq!(f.info("unknown").await, None);
}

/// A late outcome is better than a second run.
pub async fn an_expired_lease_that_was_not_reclaimed_can_be_settled(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    f.advance(LEASE * 2).await;
    assert_eq!(f.settle(&leased, complete()).await, Settled::Recorded);
}

/// A refused outcome does not affect the others.
pub async fn a_batch_returns_results_in_order_over_several_queues(harness: &dyn Harness) {
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
        all_of(f.broker.settle(&batch).await).unwrap(),
        [Recorded, Stale, Recorded, Recorded, Stale]
    );
    assert_eq!(f.state("a").await, None);
    let archived = f
        .broker
        .tasks(&[TaskRef::new("other", id("b"))])
        .await
        .unwrap();
    assert_eq!(archived[0].as_ref().unwrap().state, TaskState::Archived);
    assert_eq!(f.state("c").await, Some(TaskState::Pending));
}

/// It contains what the attempt has added, for each outcome.
pub async fn the_envelope_of_the_outcome_is_stored(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let delay = secs(10);
    let outcomes = [
        Outcome::Retry { delay },
        Outcome::Snooze { delay },
        Outcome::Archive,
        complete(),
        Outcome::Release,
        Outcome::Retry { delay: secs(0) },
    ];
    f.enqueue((0..outcomes.len()).map(|n| retained(&n.to_string(), secs(60))))
        .await;
    let leased = f.lease(outcomes.len()).await;
    for (leased, outcome) in leased.iter().zip(outcomes) {
        let mut changed = failed(&leased.envelope).as_ref().clone();
        changed.headers.insert("seen", "once");
        let changed = Arc::new(changed);
        let what = format!("{outcome:?}");
        f.settle_as(leased, Arc::clone(&changed), outcome).await;
        let kept = f.info(changed.id.as_str()).await.unwrap().envelope;
        assert_eq!(kept, changed, "{what}");
    }
    let again = f.lease(9).await;
    assert_eq!(ids(&again), ["4", "5"]);
    assert!(again.iter().all(|leased| leased.envelope.attempts == 1));
}

/// Like a retry.
pub async fn a_snooze_without_delay_is_pending_immediately(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a", "b"])).await;
    let leased = f.lease_one().await;
    f.settle(&leased, Outcome::Snooze { delay: secs(0) }).await;
    assert_eq!(f.list(TaskState::Pending).await, ["b", "a"]);
}

/// Each returns to the front in order, as if settled separately.
pub async fn the_last_task_released_in_a_batch_goes_first(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a", "b", "c"])).await;
    let leased = f.lease(2).await;
    let batch: Vec<_> = leased
        .into_iter()
        .map(|leased| leased.settle(Outcome::Release))
        .collect();
    all_of(f.broker.settle(&batch).await).unwrap();
    assert_eq!(f.list(TaskState::Pending).await, ["b", "a", "c"]);
}

/// One of a lost lease changes nothing, wherever it is in the batch.
pub async fn outcomes_of_one_task_in_a_batch_end_only_their_own_leases(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    for stale_is_first in [true, false] {
        f.enqueue(tasks(["a"])).await;
        let stale = f.lease_one().await;
        f.settle(&stale, Outcome::Release).await;
        let current = f.lease_one().await;
        let mut batch = vec![stale.settle(complete()), current.settle(Outcome::Release)];
        let mut expected = vec![Settled::Stale, Settled::Recorded];
        if !stale_is_first {
            batch.reverse();
            expected.reverse();
        }
        let settled = all_of(f.broker.settle(&batch).await).unwrap();
        assert_eq!(settled, expected);
        f.assert_counts(&[(TaskState::Pending, 1)]).await;
        let again = f.lease_one().await;
        assert_eq!(f.settle(&again, complete()).await, Settled::Recorded);
        f.assert_counts(&[]).await;
    }
}

/// A released, snoozed or revoked attempt has neither succeeded nor failed.
pub async fn each_outcome_is_counted_correctly(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let delay = secs(10);
    let mut sums = (0, 0);
    for (name, outcome, (succeeded, failed)) in [
        ("complete", complete(), (1, 0)),
        ("retry", Outcome::Retry { delay }, (0, 1)),
        ("archive", Outcome::Archive, (0, 1)),
        ("snooze", Outcome::Snooze { delay }, (0, 0)),
        ("drop", Outcome::Drop, (0, 0)),
        ("release", Outcome::Release, (0, 0)),
    ] {
        f.enqueue([task(name)]).await;
        let leased = f.lease_one().await;
        f.settle(&leased, outcome).await;
        sums = (sums.0 + succeeded, sums.1 + failed);
        let stats = f.stats().await;
        assert_eq!((stats.succeeded, stats.failed), sums, "{name}");
    }
}
