//! How long finished tasks are kept.

use asynqueue_core::{
    broker::{ArchiveStats, Keep, Outcome, Trimmed, all_of},
    task::{Name, TaskState},
};
use bytes::Bytes;

use super::{
    Harness,
    fixture::{Fixture, QUEUE, complete, retained, secs, task, task_in, task_ref, tasks},
};

async fn trim(f: &Fixture<'_>, keep: Keep, limit: usize) -> usize {
    f.trim(keep, limit).await.deleted()
}

async fn archive<const N: usize>(f: &Fixture<'_>, names: [&str; N]) {
    f.enqueue(tasks(names)).await;
    for leased in f.lease(N).await {
        f.fail(&leased, Outcome::Archive).await;
    }
}

/// But not longer.
pub async fn a_completed_task_is_kept_with_its_result_for_its_retention(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([retained("a", secs(60))]).await;
    let leased = f.lease_one().await;
    let result = Some(Bytes::from_static(b"result"));
    f.settle(
        &leased,
        Outcome::Complete {
            result: result.clone(),
        },
    )
    .await;
    f.advance(secs(50)).await;
    assert_eq!(trim(&f, Keep::default(), 10).await, 0);
    let info = f.info("a").await.unwrap();
    assert_eq!((info.state, info.result), (TaskState::Completed, result));
    f.advance(secs(15)).await;
    assert_eq!(trim(&f, Keep::default(), 10).await, 1);
    assert_eq!(f.info("a").await, None);
}

/// The last attempt changes nothing in it.
pub async fn a_completed_task_keeps_its_failures(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([retained("a", secs(60))]).await;
    let delay = secs(0);
    f.fail(&f.lease_one().await, Outcome::Retry { delay }).await;
    let leased = f.lease_one().await;
    f.settle(&leased, complete()).await;
    let info = f.info("a").await.unwrap();
    assert_eq!(info.state, TaskState::Completed);
    assert_eq!(info.envelope, leased.envelope);
    assert_eq!(info.envelope.attempts, 1);
}

/// Younger ones stay.
pub async fn archived_tasks_are_trimmed_by_age(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    archive(&f, ["old"]).await;
    f.advance(secs(1_000)).await;
    archive(&f, ["new"]).await;
    let keep = Keep::default().archived_for(secs(500));
    assert_eq!(trim(&f, keep, 10).await, 1);
    assert_eq!(f.list(TaskState::Archived).await, ["new"]);
}

/// The newest stay.
pub async fn archived_tasks_are_trimmed_by_number_oldest_first(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    for name in ["1", "2", "3", "4"] {
        archive(&f, [name]).await;
        f.advance(secs(1)).await;
    }
    assert_eq!(trim(&f, Keep::default().archived_max(2), 10).await, 2);
    assert_eq!(f.list(TaskState::Archived).await, ["4", "3"]);
}

/// With a limit, the newer ones follow in the next call.
pub async fn the_oldest_archived_tasks_are_trimmed_first(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    for name in ["1", "2", "3"] {
        archive(&f, [name]).await;
        f.advance(secs(1)).await;
    }
    let none = Keep::default().archived_max(0);
    assert_eq!(trim(&f, none, 1).await, 1);
    assert_eq!(f.list(TaskState::Archived).await, ["3", "2"]);
}

/// They have their own retention.
pub async fn the_archive_limit_does_not_affect_completed_tasks(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([retained("a", secs(1_000))]).await;
    let leased = f.lease_one().await;
    f.settle(&leased, complete()).await;
    f.advance(secs(100)).await;
    let none = Keep::new(secs(0), 0);
    assert_eq!(trim(&f, none, 10).await, 0);
    assert_eq!(f.state("a").await, Some(TaskState::Completed));
}

/// Each queue has its own maximum and limit.
pub async fn each_queue_has_a_separate_archive(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let queues = ["a", "b"].map(Name::from);
    for queue in ["a", "b"] {
        f.enqueue(["1", "2", "3"].map(|name| task_in(queue, name)))
            .await;
        for leased in f.lease_from(&[(queue, 9)], 9).await {
            f.fail(&leased, Outcome::Archive).await;
        }
    }
    let one = Keep::default().archived_max(1);
    let deleted = async |limit| {
        let trimmed = all_of(f.broker.trim(&queues, one, limit).await).unwrap();
        [trimmed[0].deleted(), trimmed[1].deleted()]
    };
    assert_eq!(deleted(1).await, [1, 1]);
    assert_eq!(deleted(9).await, [1, 1]);
    assert_eq!(deleted(9).await, [0, 0]);
    let stats = f.broker.stats(&queues).await.unwrap();
    assert!(stats.iter().all(|stats| stats.total() == 1));
}

/// By reason, in the result and permanently, so that every deletion is visible. The end of a retention does not count.
pub async fn trimmed_archived_tasks_are_counted(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([retained("done", secs(1))]).await;
    let leased = f.lease_one().await;
    f.settle(&leased, complete()).await;
    archive(&f, ["old"]).await;
    f.advance(secs(1_000)).await;
    archive(&f, ["1", "2", "3", "4"]).await;
    assert_eq!(f.stats().await.archive, ArchiveStats::default());

    let keep = |archived_max| Keep::new(secs(500), archived_max);
    let trimmed = Trimmed {
        completed: 1,
        by_count: 0,
        by_age: 1,
        archived: 4,
    };
    assert_eq!(f.trim(keep(5), 10).await, trimmed);
    let trimmed = Trimmed {
        by_count: 3,
        archived: 1,
        ..Trimmed::default()
    };
    assert_eq!(f.trim(keep(1), 10).await, trimmed);
    let last = f.broker.now();
    f.advance(secs(60)).await;
    f.trim(keep(1), 10).await;
    let mut stats = ArchiveStats::default();
    stats.max = Some(1);
    stats.trimmed_by_count = 3;
    stats.trimmed_by_age = 1;
    stats.last_trimmed = Some(last);
    assert_eq!(f.stats().await.archive, stats);
    f.broker.delete_queue(&QUEUE.into(), true).await.unwrap();
    assert_eq!(f.stats().await.archive, ArchiveStats::default());
}

/// It shows the limit long before the oldest tasks are deleted.
pub async fn an_archive_shows_its_limit_once_it_was_trimmed(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let keep = Keep::default().archived_max(5);
    f.trim(keep, 10).await;
    f.enqueue(tasks(["pending"])).await;
    f.trim(keep, 10).await;
    assert_eq!(f.stats().await.archive.max, None, "nothing was archived");
    f.broker.delete(&[task_ref("pending")]).await.unwrap();
    archive(&f, ["1", "2", "3"]).await;
    f.trim(keep, 10).await;
    let stats = f.stats().await;
    assert_eq!(stats.archive.max, Some(5));
    assert!(!stats.is_archive_nearly_full());
    archive(&f, ["4"]).await;
    assert!(f.stats().await.is_archive_nearly_full());
}

/// Nothing of the task is left.
pub async fn a_trimmed_tasks_id_is_free_again(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    archive(&f, ["a"]).await;
    let none = Keep::default().archived_max(0);
    trim(&f, none, 10).await;
    f.enqueue(tasks(["a"])).await;
    assert_eq!(f.lease_one().await.envelope.attempts, 0);
}

/// Much is trimmed in steps.
pub async fn at_most_limit_tasks_are_trimmed(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(["a", "b"].map(|name| retained(name, secs(1))))
        .await;
    for leased in f.lease(2).await {
        f.settle(&leased, complete()).await;
    }
    archive(&f, ["c", "d"]).await;
    f.advance(secs(10)).await;
    let keep = Keep::default().archived_max(0);
    assert_eq!(
        [
            trim(&f, keep, 3).await,
            trim(&f, keep, 3).await,
            trim(&f, keep, 3).await
        ],
        [3, 1, 0]
    );
}

/// However old they are.
pub async fn waiting_and_active_tasks_are_never_trimmed(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["active", "retry", "pending"])).await;
    f.lease_one().await;
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Retry { delay: secs(1) }).await;
    f.enqueue_after(task("scheduled"), secs(1)).await;
    f.advance(secs(10_000_000)).await;
    assert_eq!(trim(&f, Keep::new(secs(0), 0), 100).await, 0);
    assert_eq!(f.stats().await.total(), 4);
}
