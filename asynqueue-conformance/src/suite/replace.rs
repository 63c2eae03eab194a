//! Replacing tasks, and deleting queues.

use std::sync::Arc;

use asynqueue_core::{
    broker::{BrokerError, Finished, HourStats, Move, Outcome, Replacement, Settled, TaskInfo},
    task::{Envelope, Name, TaskState, Timestamp, UniqueUntil},
};
use bytes::Bytes;

use super::{
    Harness,
    fixture::{Fixture, QUEUE, STATES, complete, ids, retained, secs, task, task_ref, unique},
};

fn edited(envelope: &Arc<Envelope>) -> Arc<Envelope> {
    let mut edited = Envelope::clone(envelope);
    edited.payload = Bytes::from_static(b"edited");
    Arc::new(edited)
}

/// Replaces a task with a version with another payload.
async fn replace(f: &Fixture<'_>, id: &str, to: Option<Move>) -> bool {
    let info = f.info(id).await.expect("a task");
    let new = edited(&info.envelope);
    let change = Replacement::new(info, new, to);
    let done = f.broker.replace(vec![change]).await.unwrap();
    assert_eq!(done.len(), 1, "one result per change");
    done[0]
}

async fn payload(f: &Fixture<'_>, id: &str) -> Bytes {
    let info = f.info(id).await.expect("a task");
    info.envelope.payload.clone()
}

/// In its place, with nothing else changed.
pub async fn a_waiting_task_can_be_replaced(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.fill().await;
    for state in ["scheduled", "pending", "retry", "archived"] {
        let before = f.info(state).await.unwrap();
        assert!(replace(&f, state, None).await, "{state}");
        let after = f.info(state).await.unwrap();
        assert_eq!(after.envelope.payload, "edited");
        assert_eq!((after.state, after.at), (before.state, before.at));
    }
    let leased = f.lease_one().await;
    assert_eq!(leased.envelope.payload, "edited");
}

/// A worker has it, or it is done.
pub async fn active_and_completed_tasks_are_not_replaced(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.fill().await;
    for state in ["active", "completed"] {
        assert!(!replace(&f, state, None).await, "{state}");
        assert_eq!(payload(&f, state).await, "payload");
    }
}

/// Another change was first.
pub async fn a_task_that_has_changed_is_not_replaced(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([task("a"), task("b"), task("c")]).await;
    let change = |seen: &TaskInfo| Replacement::new(seen.clone(), edited(&seen.envelope), None);
    let seen = ["a", "b", "c"].map(async |id| f.info(id).await.unwrap());
    let [a, b, c] = futures_util::future::join_all(seen)
        .await
        .try_into()
        .unwrap();
    assert!(
        replace(&f, "a", Some(Move::Archived)).await,
        "another state"
    );
    assert!(replace(&f, "b", None).await, "another payload");
    assert_eq!(f.broker.delete(&[task_ref("c")]).await.unwrap(), [true]);
    let stale = [&a, &b, &c].map(change);
    let done = f.broker.replace(stale.into()).await.unwrap();
    assert_eq!(done, [false, false, false]);
    assert_eq!(f.state("a").await, Some(TaskState::Archived));
    assert_eq!(f.state("c").await, None);
}

/// To any state that it can wait in.
pub async fn a_task_can_be_moved_to_another_state(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([task("a"), task("b")]).await;
    let in_an_hour = f.broker.now() + secs(3_600);
    assert!(replace(&f, "a", Some(Move::Scheduled(in_an_hour))).await);
    let moved = f.info("a").await.unwrap();
    assert_eq!(
        (moved.state, moved.at),
        (TaskState::Scheduled, Some(in_an_hour))
    );
    assert!(replace(&f, "a", Some(Move::Archived)).await);
    assert_eq!(f.list(TaskState::Archived).await, ["a"]);
    assert!(replace(&f, "a", Some(Move::Pending)).await);
    assert_eq!(f.list(TaskState::Pending).await, ["b", "a"]);
    assert!(replace(&f, "b", Some(Move::Scheduled(Timestamp::default()))).await);
    assert_eq!(ids(&f.lease(10).await), ["a", "b"]);
}

/// As with `run_now`. A task that stays in its state or is archived keeps its times.
pub async fn an_expired_task_is_renewed_when_it_is_moved_to_run(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut late = task("a");
    late.enqueued_at = f.broker.now();
    let deadline = late.enqueued_at + secs(100);
    late.deadline = Some(deadline);
    f.enqueue([late]).await;
    f.advance(secs(200)).await;
    let moved = async |to| {
        assert!(replace(&f, "a", to).await, "{to:?}");
        f.info("a").await.unwrap().envelope.deadline
    };
    assert_eq!(moved(None).await, Some(deadline));
    assert_eq!(moved(Some(Move::Archived)).await, Some(deadline));
    let renewed = f.broker.now() + secs(100);
    assert_eq!(moved(Some(Move::Pending)).await, Some(renewed));
    f.advance(secs(200)).await;
    let later = Move::Scheduled(f.broker.now() + secs(10));
    let renewed = f.broker.now() + secs(100);
    assert_eq!(moved(Some(later)).await, Some(renewed));
}

/// Its waiters receive the outcome.
pub async fn archiving_a_task_ends_it(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([unique("a", UniqueUntil::Success, secs(1_000))])
        .await;
    let broker = Arc::clone(&f.broker);
    let waiting = tokio::spawn(async move { broker.finished(&task_ref("a")).await.unwrap() });
    tokio::task::yield_now().await;
    assert!(replace(&f, "a", Some(Move::Archived)).await);
    assert!(matches!(waiting.await.unwrap(), Finished::Archived { .. }));
    // It has released its lock, and takes it again only if it is free.
    f.enqueue([unique("b", UniqueUntil::Success, secs(1_000))])
        .await;
    assert!(!replace(&f, "a", Some(Move::Pending)).await);
    assert_eq!(f.state("a").await, Some(TaskState::Archived));
    assert_eq!(f.broker.delete(&[task_ref("b")]).await.unwrap(), [true]);
    assert!(replace(&f, "a", Some(Move::Pending)).await);
    let refused = f
        .try_enqueue(vec![super::fixture::now(unique(
            "c",
            UniqueUntil::Success,
            secs(1_000),
        ))])
        .await;
    assert!(refused[0].is_err());
}

/// Unless it is forced.
pub async fn a_queue_with_tasks_is_not_deleted(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let queue: Name = QUEUE.into();
    f.enqueue([retained("done", secs(1_000))]).await;
    let leased = f.lease_one().await;
    f.settle(&leased, complete()).await;
    assert!(!f.broker.delete_queue(&queue, false).await.unwrap());
    assert_eq!(f.state("done").await, Some(TaskState::Completed));
    assert_eq!(f.broker.delete(&[task_ref("done")]).await.unwrap(), [true]);
    assert!(f.broker.delete_queue(&queue, false).await.unwrap());
    assert_eq!(f.broker.queues().await.unwrap(), [] as [Name; 0]);
    assert!(
        f.broker
            .delete_queue(&"unknown".into(), false)
            .await
            .unwrap()
    );
}

/// With all its tasks.
pub async fn a_queue_that_is_deleted_by_force_is_gone(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let queue: Name = QUEUE.into();
    let leased = f.fill().await;
    let broker = Arc::clone(&f.broker);
    let waiting = tokio::spawn(async move { broker.finished(&task_ref("pending")).await.unwrap() });
    tokio::task::yield_now().await;
    assert!(f.broker.delete_queue(&queue, true).await.unwrap());
    assert_eq!(waiting.await.unwrap(), Finished::Gone);
    assert_eq!(f.broker.queues().await.unwrap(), [] as [Name; 0]);
    let stats = f.stats().await;
    assert_eq!((stats.total(), stats.succeeded, stats.failed), (0, 0, 0));
    for state in STATES {
        assert_eq!(f.list(state).await, [] as [&str; 0]);
    }
    assert_eq!(f.settle(&leased, complete()).await, Settled::Stale);
    // It can be used again.
    f.enqueue([task("active")]).await;
    assert_eq!(f.broker.queues().await.unwrap(), [QUEUE]);
    assert_eq!(f.settle(&leased, complete()).await, Settled::Stale);
    assert_eq!(ids(&f.lease(10).await), ["active"]);
}

async fn history_since(f: &Fixture<'_>, since: Timestamp) -> Vec<HourStats> {
    let history = f.broker.history(&[QUEUE.into()], since).await;
    history.unwrap().remove(0)
}

async fn history(f: &Fixture<'_>) -> Vec<HourStats> {
    history_since(f, Timestamp::default()).await
}

/// In the hour in which they ended.
pub async fn attempts_are_counted_by_the_hour_of_their_end(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(["a", "b", "c", "d"].map(task)).await;
    let leased = f.lease(4).await;
    f.settle(&leased[0], complete()).await;
    f.fail(&leased[1], Outcome::Archive).await;
    let hour = |at: Timestamp| {
        Timestamp::from_millis(at.as_millis() / HourStats::MILLIS * HourStats::MILLIS)
    };
    let first = HourStats::new(hour(f.broker.now()), 1, 1);
    assert_eq!(history(&f).await, [first]);
    f.advance(secs(2 * 3_600)).await;
    f.settle(&leased[2], complete()).await;
    f.settle(&leased[3], complete()).await;
    let later = HourStats::new(hour(f.broker.now()), 2, 0);
    assert_eq!(history(&f).await, [first, later]);
    let half_an_hour = secs(1_800);
    assert_eq!(history_since(&f, later.start + half_an_hour).await, [later]);
    let hour_before = later.start - half_an_hour;
    assert_eq!(history_since(&f, hour_before).await, [later]);
    assert_eq!(
        history_since(&f, first.start + half_an_hour).await,
        [first, later]
    );
    let unknown = f
        .broker
        .history(&["unknown".into()], first.start)
        .await
        .unwrap();
    assert_eq!(unknown, [[]]);
}

/// Older hours are deleted.
pub async fn history_is_kept_for_ninety_days(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let a_day = secs(24 * 3_600);
    f.enqueue(["a", "b"].map(task)).await;
    let leased = f.lease(2).await;
    f.settle(&leased[0], complete()).await;
    f.advance(a_day * 89).await;
    f.settle(&leased[1], complete()).await;
    assert_eq!(history(&f).await.len(), 2);
    f.advance(a_day * 2).await;
    assert_eq!(history(&f).await.len(), 1);
}

/// Shows users where memory is used.
pub async fn storage_reports_its_nodes_and_memory(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([task("a")]).await;
    let memory = f.broker.memory(&[QUEUE.into(), "unknown".into()]).await;
    let memory = memory.unwrap();
    assert!(memory[0].is_none_or(|bytes| bytes > 0), "{memory:?}");
    assert!(memory[1].is_none_or(|bytes| bytes == 0), "{memory:?}");
    let nodes = f.broker.nodes().await.unwrap();
    assert!(!nodes.is_empty());
    assert!(
        nodes.iter().all(|node| !node.address.is_empty()),
        "{nodes:?}"
    );
    let place = f.broker.place(&QUEUE.into());
    assert_eq!(place, f.broker.place(&QUEUE.into()));
    assert!(place.is_none_or(|place| !place.is_empty()));
}

/// All calls return `Closed`.
pub async fn a_closed_broker_changes_nothing(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.close().await;
    let deleted = f.broker.delete_queue(&QUEUE.into(), true).await;
    assert!(matches!(deleted, Err(BrokerError::Closed)));
    let groups = f.broker.due_groups(&[QUEUE.into()], &[], 1).await;
    assert!(matches!(groups, Err(BrokerError::Closed)));
    let servers = f.broker.servers().await;
    assert!(matches!(servers, Err(BrokerError::Closed)));
    let subscribers = f.broker.subscriptions().await;
    assert!(matches!(subscribers, Err(BrokerError::Closed)));
    let due = f.broker.due_schedules(1).await;
    assert!(matches!(due, Err(BrokerError::Closed)));
}
