//! At most one task with a key at a time.

use asynqueue_core::{
    broker::{Conflict, Keep, Outcome, all_of},
    task::{TaskState, UniqueUntil},
};

use super::{
    Harness,
    fixture::{Fixture, complete, id, ids, now, secs, task_ref, unique},
};

/// Whether a task with the key is refused now. If it is not, it is deleted again.
async fn is_held(f: &Fixture<'_>) -> bool {
    let probe = f
        .try_enqueue(vec![now(unique(
            "probe",
            UniqueUntil::Success,
            secs(1_000),
        ))])
        .await;
    if probe[0].is_ok() {
        f.broker.delete(&[task_ref("probe")]).await.unwrap();
    }
    probe[0].is_err()
}

/// With its state, so that the caller can decide what to do.
pub async fn a_duplicate_key_is_refused_and_the_holder_named(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let first = unique("first", UniqueUntil::Success, secs(60));
    let key = first.unique.as_ref().unwrap().key.clone();
    f.enqueue([first]).await;
    let refused = f
        .try_enqueue(vec![now(unique("second", UniqueUntil::Success, secs(60)))])
        .await;
    let conflict = Conflict::Unique {
        key,
        holder: id("first"),
        state: TaskState::Pending,
    };
    assert_eq!(refused, [Err(conflict)]);
    assert_eq!(f.info("second").await, None);
}

/// From then on the next task may wait.
pub async fn a_lock_until_start_ends_with_the_lease(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([unique("a", UniqueUntil::Start, secs(60))]).await;
    assert!(is_held(&f).await);
    f.lease_one().await;
    assert!(!is_held(&f).await);
}

/// A retry is still the same task.
pub async fn a_lock_until_success_is_held_through_retries_and_ends_with_completion(
    harness: &dyn Harness,
) {
    let f = Fixture::new(harness).await;
    f.enqueue([unique("a", UniqueUntil::Success, secs(1_000))])
        .await;
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Retry { delay: secs(0) }).await;
    assert!(is_held(&f).await);
    let leased = f.lease_one().await;
    assert!(is_held(&f).await);
    f.settle(&leased, complete()).await;
    assert!(!is_held(&f).await);
}

/// At most one in that time, however soon it is done.
pub async fn a_lock_for_a_window_outlives_its_task(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([unique("a", UniqueUntil::Window, secs(60))])
        .await;
    let leased = f.lease_one().await;
    f.settle(&leased, complete()).await;
    assert!(is_held(&f).await);
    // Also under the same id. A refused caller learns that there is nothing to wait for.
    let again = unique("a", UniqueUntil::Window, secs(60));
    let conflict = Conflict::Unique {
        key: again.unique.as_ref().unwrap().key.clone(),
        holder: id("a"),
        state: TaskState::Completed,
    };
    assert_eq!(f.try_enqueue(vec![now(again)]).await, [Err(conflict)]);
    f.advance(secs(61)).await;
    assert!(!is_held(&f).await);
}

/// Otherwise the next task could not be enqueued until the lock expires.
pub async fn every_final_state_releases_a_lock_until_success(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let holder = || unique("a", UniqueUntil::Success, secs(1_000));
    for outcome in [Outcome::Archive, Outcome::Drop] {
        f.enqueue([holder()]).await;
        let leased = f.lease_one().await;
        f.settle(&leased, outcome).await;
        assert!(!is_held(&f).await);
        f.broker.delete(&[task_ref("a")]).await.unwrap();
    }
    f.enqueue([holder()]).await;
    f.broker
        .cancel(&[task_ref("a")], "not needed")
        .await
        .unwrap();
    assert!(!is_held(&f).await);
    f.broker.delete(&[task_ref("a")]).await.unwrap();
    f.enqueue([holder()]).await;
    f.broker.delete(&[task_ref("a")]).await.unwrap();
    assert!(!is_held(&f).await);
}

/// A crash never holds it forever.
pub async fn a_lock_ends_with_its_time_to_live(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([unique("a", UniqueUntil::Success, secs(60))])
        .await;
    f.lease_one().await;
    f.advance(secs(50)).await;
    assert!(is_held(&f).await);
    f.advance(secs(15)).await;
    assert!(!is_held(&f).await);
}

/// Another task may hold the key by then.
pub async fn a_late_holder_does_not_release_the_lock_of_the_next(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([unique("late", UniqueUntil::Success, secs(10))])
        .await;
    let late = f.lease_one().await;
    f.advance(secs(11)).await;
    f.enqueue([unique("next", UniqueUntil::Success, secs(1_000))])
        .await;
    f.settle(&late, complete()).await;
    assert!(is_held(&f).await);
}

/// In whichever way it ends.
pub async fn no_outcome_of_a_late_holder_releases_the_lock_of_the_next(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let late = [
        ("leased", UniqueUntil::Start),
        ("cancelled", UniqueUntil::Success),
        ("deleted", UniqueUntil::Success),
    ];
    for (name, until) in late {
        f.enqueue([unique(name, until, secs(10))]).await;
        f.advance(secs(11)).await;
    }
    f.enqueue([unique("next", UniqueUntil::Success, secs(1_000))])
        .await;
    assert_eq!(ids(&f.lease(1).await), ["leased"]);
    assert!(is_held(&f).await);
    f.broker
        .cancel(&[task_ref("cancelled")], "late")
        .await
        .unwrap();
    assert!(is_held(&f).await);
    f.broker.delete(&[task_ref("deleted")]).await.unwrap();
    assert!(is_held(&f).await);
}

/// It was not accepted, so it holds nothing.
pub async fn a_task_with_a_duplicate_id_takes_no_lock(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([super::fixture::task("a")]).await;
    let refused = f
        .try_enqueue(vec![now(unique("a", UniqueUntil::Success, secs(60)))])
        .await;
    assert!(matches!(refused[0], Err(Conflict::Id { .. })));
    assert!(!is_held(&f).await);
}

/// Otherwise two tasks with the key would wait.
pub async fn an_archived_task_runs_again_only_if_its_lock_is_free(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([unique("old", UniqueUntil::Success, secs(1_000))])
        .await;
    f.broker
        .cancel(&[task_ref("old")], "not now")
        .await
        .unwrap();
    f.enqueue([unique("new", UniqueUntil::Success, secs(1_000))])
        .await;
    assert_eq!(f.broker.run_now(&[task_ref("old")]).await.unwrap(), [false]);
    assert_eq!(f.state("old").await, Some(TaskState::Archived));
    f.broker.delete(&[task_ref("new")]).await.unwrap();
    assert_eq!(f.broker.run_now(&[task_ref("old")]).await.unwrap(), [true]);
    assert!(is_held(&f).await);
}

/// As if they were sent one by one.
pub async fn the_first_of_two_in_a_batch_takes_the_key(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let batch = ["a", "b"].map(|name| now(unique(name, UniqueUntil::Success, secs(60))));
    let answers = f.try_enqueue(batch.into()).await;
    assert_eq!(answers[0], Ok(()));
    assert!(matches!(&answers[1], Err(Conflict::Unique { holder, .. }) if *holder == id("a")));
}

/// Keys of different queues are independent.
pub async fn a_key_is_held_in_its_queue(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut elsewhere = unique("b", UniqueUntil::Success, secs(60));
    elsewhere.queue = "other".into();
    f.enqueue([unique("a", UniqueUntil::Success, secs(60)), elsewhere])
        .await;
}

/// From its acceptance, not from its due time.
pub async fn a_scheduled_task_holds_its_lock(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue_after(unique("a", UniqueUntil::Start, secs(1_000)), secs(100))
        .await;
    let refused = f
        .try_enqueue(vec![now(unique("b", UniqueUntil::Start, secs(60)))])
        .await;
    let state = TaskState::Scheduled;
    assert!(
        matches!(&refused[0], Err(Conflict::Unique { state: held_in, .. }) if *held_in == state)
    );
}

/// It has started once.
pub async fn a_lock_until_start_is_not_taken_again_by_a_retry(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([unique("a", UniqueUntil::Start, secs(1_000))])
        .await;
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Retry { delay: secs(10) }).await;
    assert!(!is_held(&f).await);
}

/// It has not started, or not finished: another task with the key would run beside it.
pub async fn a_lock_until_start_is_taken_again_by_a_task_that_returns_to_its_queue(
    harness: &dyn Harness,
) {
    let f = Fixture::new(harness).await;
    let delay = secs(10);
    let none = secs(0);
    for (round, outcome) in [
        Outcome::Release,
        Outcome::Snooze { delay },
        Outcome::Snooze { delay: none },
    ]
    .into_iter()
    .enumerate()
    {
        let name = round.to_string();
        f.enqueue([unique(&name, UniqueUntil::Start, secs(1_000))])
            .await;
        let leased = f.lease_one().await;
        assert!(!is_held(&f).await, "{outcome:?}");
        f.settle(&leased, outcome.clone()).await;
        assert!(is_held(&f).await, "{outcome:?}");
        // It ends as before.
        f.broker.run_now(&[task_ref(&name)]).await.unwrap();
        let leased = f.lease_one().await;
        assert!(!is_held(&f).await, "{outcome:?}");
        f.settle(&leased, complete()).await;
    }
}

/// It waits without the lock, before the other task.
pub async fn a_task_that_returns_to_its_queue_leaves_its_lock_to_another_holder(
    harness: &dyn Harness,
) {
    let f = Fixture::new(harness).await;
    let holder = |name| unique(name, UniqueUntil::Start, secs(1_000));
    f.enqueue([holder("first")]).await;
    let first = f.lease_one().await;
    f.enqueue([holder("second")]).await;
    f.settle(&first, Outcome::Release).await;
    assert_eq!(f.list(TaskState::Pending).await, ["first", "second"]);
    // It starts, and the other task keeps the lock.
    assert_eq!(ids(&f.lease(1).await), ["first"]);
    assert!(is_held(&f).await);
    assert_eq!(ids(&f.lease(1).await), ["second"]);
    assert!(!is_held(&f).await);
}

/// As if they returned one by one.
pub async fn the_first_of_two_that_return_in_a_batch_takes_the_lock(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let holder = |name| unique(name, UniqueUntil::Start, secs(1_000));
    f.enqueue([holder("first")]).await;
    let mut leased = f.lease(1).await;
    f.enqueue([holder("second")]).await;
    leased.extend(f.lease(1).await);
    let released = leased.into_iter().map(|one| one.settle(Outcome::Release));
    let released: Vec<_> = released.collect();
    all_of(f.broker.settle(&released).await).unwrap();
    let refused = f.try_enqueue(vec![now(holder("third"))]).await;
    assert!(
        matches!(&refused[0], Err(Conflict::Unique { holder, .. }) if *holder == id("first")),
        "{refused:?}"
    );
}

/// It never will.
pub async fn a_lock_until_start_ends_with_a_task_that_never_starts(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let holder = |name| unique(name, UniqueUntil::Start, secs(1_000));
    f.enqueue([holder("cancelled")]).await;
    f.broker
        .cancel(&[task_ref("cancelled")], "not needed")
        .await
        .unwrap();
    f.enqueue([holder("deleted")]).await;
    f.broker.delete(&[task_ref("deleted")]).await.unwrap();
    assert!(!is_held(&f).await);
}

/// A released, snoozed or retried task has not ended.
pub async fn a_lock_until_success_is_held_while_the_task_waits_again(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([unique("a", UniqueUntil::Success, secs(10_000))])
        .await;
    let delay = secs(10);
    for outcome in [
        Outcome::Release,
        Outcome::Snooze { delay },
        Outcome::Retry { delay },
    ] {
        let leased = f.lease_one().await;
        f.settle(&leased, outcome).await;
        assert!(is_held(&f).await);
        f.broker.run_now(&[task_ref("a")]).await.unwrap();
        assert!(is_held(&f).await);
    }
}

/// At most one in that time, even if it was not needed.
pub async fn a_window_is_held_whatever_the_outcome_of_its_task(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    for (round, outcome) in [Outcome::Drop, Outcome::Archive].into_iter().enumerate() {
        f.enqueue([unique(&round.to_string(), UniqueUntil::Window, secs(60))])
            .await;
        let leased = f.lease_one().await;
        f.settle(&leased, outcome).await;
        assert!(is_held(&f).await);
        f.advance(secs(61)).await;
    }
    let cancelled = unique("cancelled", UniqueUntil::Window, secs(60));
    f.enqueue([cancelled]).await;
    f.broker
        .cancel(&[task_ref("cancelled")], "not needed")
        .await
        .unwrap();
    assert!(is_held(&f).await);
    f.broker.delete(&[task_ref("cancelled")]).await.unwrap();
    assert!(is_held(&f).await);
}

/// It releases only the locks of trimmed tasks.
pub async fn trimming_keeps_the_locks_of_others(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([unique("a", UniqueUntil::Window, secs(60))])
        .await;
    let leased = f.lease_one().await;
    f.settle(&leased, Outcome::Archive).await;
    let none = Keep::new(secs(0), 0);
    assert_eq!(f.trim(none, 10).await.deleted(), 1);
    assert!(is_held(&f).await);
}
