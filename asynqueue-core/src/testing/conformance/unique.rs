//! At most one task with a key at a time.

use super::{
    Harness,
    fixture::{Fixture, complete, id, now, secs, task_ref, unique},
};
use crate::{
    broker::{Conflict, Outcome},
    task::{TaskState, UniqueUntil},
};

/// Whether a task with the key is refused now; if it is not, it is deleted again.
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
pub async fn a_second_task_with_the_key_is_refused_and_the_holder_named(harness: &dyn Harness) {
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

/// From then on the next one may wait.
pub async fn a_lock_until_start_ends_with_the_lease(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([unique("a", UniqueUntil::Start, secs(60))]).await;
    assert!(is_held(&f).await);
    f.lease_one().await;
    assert!(!is_held(&f).await);
}

/// A retry is the same task still.
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
    let again = f
        .try_enqueue(vec![now(unique("a", UniqueUntil::Window, secs(60)))])
        .await;
    assert!(again[0].is_err(), "also under the same id");
    f.advance(secs(61)).await;
    assert!(!is_held(&f).await);
}

/// Or the next could not be enqueued until the lock's time is up.
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

/// So that no crash holds it for ever.
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

/// The key may be another's by then.
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

/// It was not accepted, so it holds nothing.
pub async fn a_task_refused_for_its_id_takes_no_lock(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([super::fixture::task("a")]).await;
    let refused = f
        .try_enqueue(vec![now(unique("a", UniqueUntil::Success, secs(60)))])
        .await;
    assert!(matches!(refused[0], Err(Conflict::Id { .. })));
    assert!(!is_held(&f).await);
}

/// Or two with the key would wait at once.
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
