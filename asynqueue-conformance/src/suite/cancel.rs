//! Cancelling tasks.

use asynqueue_core::{
    broker::{CancelOutcome, Extended, Outcome, Settled, Signal, all_of},
    task::{FailureKind, TaskRef, TaskState, Timestamp},
};
use futures_util::StreamExt;

use super::{
    Harness,
    fixture::{
        Fixture, LEASE, QUEUE, complete, id, retained, secs, task, task_in, task_ref, tasks,
    },
};

async fn cancel(f: &Fixture<'_>, name: &str) -> CancelOutcome {
    f.broker
        .cancel(&[task_ref(name)], "changed my mind")
        .await
        .unwrap()[0]
}

async fn assert_cancelled(f: &Fixture<'_>, name: &str) {
    let info = f.info(name).await.unwrap();
    assert_eq!(info.state, TaskState::Archived, "{name}");
    let last = info.envelope.last_failure().unwrap();
    assert_eq!(
        (last.kind, last.message.as_str()),
        (FailureKind::Cancelled, "changed my mind")
    );
}

/// In any waiting state.
pub async fn a_waiting_task_is_archived_with_the_reason(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["retry", "pending"])).await;
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Retry { delay: secs(10) }).await;
    f.enqueue_after(task("scheduled"), secs(10)).await;
    for name in ["retry", "pending", "scheduled"] {
        assert_eq!(cancel(&f, name).await, CancelOutcome::Cancelled);
        assert_cancelled(&f, name).await;
    }
    f.assert_counts(&[(TaskState::Archived, 3)]).await;
    f.advance(secs(100)).await;
    assert_eq!(
        all_of(f.broker.forward(&[QUEUE.into()], 10).await).unwrap()[0].moved,
        0
    );
}

/// Immediately by a signal, and at the latest when it extends its lease.
pub async fn the_worker_of_an_active_task_is_notified(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    let mut signals = f.broker.signals(&[QUEUE.into()]).await.unwrap();
    assert_eq!(cancel(&f, "a").await, CancelOutcome::Requested);
    assert_eq!(signals.next().await, Some(Signal::Cancel(task_ref("a"))));
    // A worker that has missed one of these is notified by the next.
    for _ in 0..2 {
        let extended = all_of(f.broker.extend(&[leased.lease()], LEASE).await).unwrap();
        assert_eq!(extended, [Extended::CancelRequested]);
    }
}

/// A cancellation is final.
pub async fn a_cancelled_task_that_fails_is_not_retried(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    for (name, outcome) in [
        ("a", Outcome::Retry { delay: secs(0) }),
        ("b", Outcome::Snooze { delay: secs(5) }),
    ] {
        f.enqueue([task(name)]).await;
        let leased = f.lease_one().await;
        cancel(&f, name).await;
        assert_eq!(f.fail(&leased, outcome).await, Settled::Cancelled);
        assert_cancelled(&f, name).await;
        // The error of the handler is kept too.
        assert_eq!(f.info(name).await.unwrap().envelope.failures().len(), 2);
    }
}

/// For example by a server that shuts down.
pub async fn a_cancelled_task_that_is_released_is_archived(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    cancel(&f, "a").await;
    assert_eq!(
        f.settle(&leased, Outcome::Release).await,
        Settled::Cancelled
    );
    assert_cancelled(&f, "a").await;
}

/// For example after its last attempt.
pub async fn a_cancelled_task_that_is_archived_keeps_the_reason(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    cancel(&f, "a").await;
    assert_eq!(f.fail(&leased, Outcome::Archive).await, Settled::Cancelled);
    assert_cancelled(&f, "a").await;
}

/// The work is done.
pub async fn a_cancelled_task_that_completes_anyway_is_completed(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([retained("a", secs(60))]).await;
    let leased = f.lease_one().await;
    cancel(&f, "a").await;
    f.settle(&leased, complete()).await;
    assert_eq!(f.state("a").await, Some(TaskState::Completed));
}

/// A task that never existed cannot be cancelled either.
pub async fn a_finished_task_cannot_be_cancelled(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([retained("completed", secs(60)), task("archived")])
        .await;
    let leased = f.lease(2).await;
    f.settle(&leased[0], complete()).await;
    f.fail(&leased[1], Outcome::Archive).await;
    assert_eq!(
        cancel(&f, "completed").await,
        CancelOutcome::AlreadyFinished
    );
    assert_eq!(cancel(&f, "archived").await, CancelOutcome::AlreadyFinished);
    assert_eq!(cancel(&f, "unknown").await, CancelOutcome::NotFound);
}

/// Also from the middle of the queue.
pub async fn a_cancelled_pending_task_is_not_leased(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a", "b", "c"])).await;
    cancel(&f, "b").await;
    assert_eq!(super::fixture::ids(&f.lease(9).await), ["a", "c"]);
}

/// The handler requested it, so nothing is left to run again.
pub async fn a_cancelled_task_that_is_revoked_is_gone(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    cancel(&f, "a").await;
    f.settle(&leased, Outcome::Drop).await;
    assert_eq!(f.state("a").await, None);
}

/// It is not run again.
pub async fn a_cancelled_task_whose_worker_is_lost_is_archived(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    f.lease_one().await;
    cancel(&f, "a").await;
    f.advance(LEASE * 2).await;
    let lost = all_of(f.broker.expired(&[QUEUE.into()], Timestamp::MAX, 1).await)
        .unwrap()
        .concat()
        .remove(0);
    f.fail(&lost, Outcome::Retry { delay: secs(0) }).await;
    assert_cancelled(&f, "a").await;
}

/// A second request returns the same.
pub async fn the_first_reason_is_kept(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    cancel(&f, "a").await;
    let again = f.broker.cancel(&[task_ref("a")], "to be sure").await;
    assert_eq!(again.unwrap(), [CancelOutcome::Requested]);
    f.fail(&leased, Outcome::Retry { delay: secs(0) }).await;
    assert_cancelled(&f, "a").await;
}

/// It cancels neither a new task with the id nor the task itself when it runs again.
pub async fn a_request_to_cancel_ends_with_the_lease(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    cancel(&f, "a").await;
    f.settle(&leased, complete()).await;
    f.enqueue(tasks(["a"])).await;
    for _ in 0..2 {
        let leased = f.lease_one().await;
        let extended = all_of(f.broker.extend(&[leased.lease()], LEASE).await).unwrap();
        assert_eq!(extended, [Extended::Yes]);
        cancel(&f, "a").await;
        f.fail(&leased, Outcome::Archive).await;
        f.broker.run_now(&[task_ref("a")]).await.unwrap();
    }
    assert_eq!(f.state("a").await, Some(TaskState::Pending));
}

/// There was no attempt.
pub async fn cancelling_a_waiting_task_counts_no_attempt(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    cancel(&f, "a").await;
    let (envelope, stats) = (f.info("a").await.unwrap().envelope, f.stats().await);
    assert_eq!(
        (envelope.attempts, stats.succeeded, stats.failed),
        (0, 0, 0)
    );
}

/// Only a failed attempt counts.
pub async fn releasing_a_cancelled_task_counts_no_failure(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let delay = secs(10);
    for (name, outcome, failed) in [
        ("released", Outcome::Release, 0),
        ("snoozed", Outcome::Snooze { delay }, 0),
        ("retried", Outcome::Retry { delay }, 1),
    ] {
        f.enqueue([task(name)]).await;
        let leased = f.lease_one().await;
        cancel(&f, name).await;
        f.settle(&leased, outcome).await;
        assert_eq!(f.state(name).await, Some(TaskState::Archived));
        assert_eq!(f.stats().await.failed, failed, "{name}");
    }
}

/// Each task has its own result.
pub async fn cancellations_return_results_in_order_over_several_queues(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.fill().await;
    f.enqueue([task_in("other", "pending")]).await;
    let elsewhere = |name| TaskRef::new("other", id(name));
    let tasks = [
        task_ref("active"),
        elsewhere("pending"),
        task_ref("completed"),
        elsewhere("unknown"),
        task_ref("pending"),
        task_ref("pending"),
    ];
    use CancelOutcome::{AlreadyFinished, Cancelled, NotFound, Requested};
    assert_eq!(
        f.broker.cancel(&tasks, "all of it").await.unwrap(),
        [
            Requested,
            Cancelled,
            AlreadyFinished,
            NotFound,
            Cancelled,
            AlreadyFinished
        ]
    );
}
