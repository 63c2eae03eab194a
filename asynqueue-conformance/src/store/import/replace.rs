//! A task that is stored already is left alone, or replaced if it is as it was read.

use std::sync::Arc;

use asynqueue_core::{
    broker::{Finished, Import, Imported, TaskInfo, TaskPlace},
    task::{TaskState, UniqueUntil},
};
use tokio::task::JoinSet;

use super::{
    PATIENCE, bring, enqueue, find, import, import_all, info, lease, pending, places, stats,
};
use crate::{
    changed,
    store::StoreHarness,
    suite::fixture::{ids, secs, task, task_in, task_ref, unique},
};

/// Whatever its state is, and in the same call.
pub async fn a_task_with_a_taken_id_is_left_alone(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    for place in places(now) {
        let name = place.state().as_str().to_owned();
        bring(&store, [import(task(&name), place.clone())]).await;
        let before = info(&store, &name).await;
        let other = import(changed(task(&name), |task| task.attempts = 7), pending(now));
        assert_eq!(import_all(&store, vec![other]).await, [Imported::Exists]);
        assert_eq!(info(&store, &name).await, before);
    }
    let twice = import(task("twice"), pending(now));
    let elsewhere = import(task_in("other", "twice"), pending(now));
    let imported = import_all(&store, vec![twice.clone(), elsewhere, twice]).await;
    assert_eq!(imported, [Imported::Done, Imported::Done, Imported::Exists]);
}

/// A move that is sent twice at the same time does not double a task.
pub async fn one_of_racing_imports_of_an_id_is_stored(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let mut imports = JoinSet::new();
    for _ in 0..8 {
        let (store, now) = (Arc::clone(&store), store.now());
        let import = import(task("a"), pending(now));
        imports.spawn(async move { import_all(&store, vec![import]).await });
    }
    let imported = imports.join_all().await.concat();
    let of = |wanted| imported.iter().filter(|one| **one == wanted).count();
    assert_eq!((of(Imported::Done), of(Imported::Exists)), (1, 7));
    assert_eq!(lease(&store, 10).await.len(), 1);
}

/// A version that was read earlier, an active task and a completed one are refused.
pub async fn a_stored_task_is_replaced_only_if_it_is_as_it_was_read(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    let place = TaskPlace::Scheduled {
        due: now + secs(9_999),
    };
    bring(&store, [import(task("a"), place.clone())]).await;
    let seen = info(&store, "a").await;
    let envelope = Arc::new(changed(task("a"), |task| task.payload = "new".into()));
    let retry = TaskPlace::Retry {
        due: now + secs(60),
    };
    let replace = |seen: &TaskInfo, place: &TaskPlace| {
        vec![Import::new(Arc::clone(&envelope), place.clone()).replacing(seen.version)]
    };
    assert_eq!(
        import_all(&store, replace(&seen, &retry)).await,
        [Imported::Done]
    );
    let found = info(&store, "a").await;
    assert_eq!((found.place(), &found.envelope), (Some(retry), &envelope));
    let counts = stats(&store).await.counts;
    assert_eq!(counts, [(TaskState::Retry, 1)].into());
    let old = import_all(&store, replace(&seen, &pending(now))).await;
    assert_eq!(old, [Imported::Changed]);
    assert_eq!(
        import_all(&store, replace(&found, &pending(now))).await,
        [Imported::Done]
    );
    lease(&store, 1).await;
    let active = info(&store, "a").await;
    let refused = import_all(&store, replace(&active, &pending(now))).await;
    assert_eq!(refused, [Imported::Changed]);
    let missing = Import::new(Arc::new(task("b")), place).replacing(seen.version);
    assert_eq!(import_all(&store, vec![missing]).await, [Imported::Changed]);
    let [.., completed, _] = places(now);
    bring(&store, [import(task("c"), completed)]).await;
    let completed = info(&store, "c").await;
    let other = Import::new(Arc::clone(&completed.envelope), pending(now));
    let refused = import_all(&store, vec![other.replacing(completed.version)]).await;
    assert_eq!(refused, [Imported::Changed]);
    assert_eq!(find(&store, "b").await, None);
}

/// In the order given, as if each had been enqueued then.
pub async fn a_replaced_task_moves_behind_the_pending_ones(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    bring(
        &store,
        ["a", "b"].map(|name| import(task(name), pending(now))),
    )
    .await;
    let seen = info(&store, "a").await;
    let again = Import::new(Arc::clone(&seen.envelope), pending(now)).replacing(seen.version);
    assert_eq!(import_all(&store, vec![again]).await, [Imported::Done]);
    assert_eq!(ids(&lease(&store, 10).await), ["b", "a"]);
}

/// The waiters of the stored task receive its end, and its lock is free.
pub async fn a_stored_task_that_is_replaced_by_a_finished_one_ends(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    let locked = || unique("a", UniqueUntil::Success, secs(100));
    bring(&store, [import(locked(), pending(now))]).await;
    let waiting = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.finished(&task_ref("a")).await })
    };
    let seen = info(&store, "a").await;
    let result = Some("done".into());
    let until = now + secs(100);
    let end = TaskPlace::Completed { until, result };
    let end = import(locked(), end).replacing(seen.version);
    assert_eq!(import_all(&store, vec![end]).await, [Imported::Done]);
    let finished = tokio::time::timeout(PATIENCE, waiting).await;
    let finished = finished.expect("in time").unwrap().unwrap();
    let Finished::Completed { result, .. } = finished else {
        panic!("it completed: {finished:?}");
    };
    assert_eq!(result, Some("done".into()));
    assert!(enqueue(&store, unique("b", UniqueUntil::Success, secs(1))).await);
}
