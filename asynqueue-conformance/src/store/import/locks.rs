//! Tasks take their unique locks as far as they are free.

use std::sync::Arc;

use asynqueue_core::{
    broker::{Import, Imported, Outcome, all_of},
    task::UniqueUntil,
};

use super::{bring, enqueue, import, import_all, info, lease, pending, places};
use crate::{
    changed,
    store::StoreHarness,
    suite::fixture::{QUEUE, secs, unique},
};

/// It is never refused because of a lock: it waits without it.
pub async fn a_task_takes_its_lock_if_it_is_free(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    let locked = |name| unique(name, UniqueUntil::Success, secs(100));
    bring(&store, [import(locked("a"), pending(now))]).await;
    assert!(!enqueue(&store, locked("refused")).await, "`a` has it");
    bring(&store, [import(locked("b"), pending(now))]).await;
    let leased = lease(&store, 1).await.remove(0);
    let drop = leased.settle(Outcome::Drop);
    all_of(store.settle(&[drop]).await).unwrap();
    assert!(enqueue(&store, locked("c")).await, "`b` never had it");
    harness.advance(secs(100)).await;
    bring(&store, [import(locked("d"), pending(now))]).await;
    assert!(!enqueue(&store, locked("refused")).await, "`d` has it now");
    let seen = info(&store, "d").await;
    let again = Import::new(Arc::clone(&seen.envelope), pending(now)).replacing(seen.version);
    assert_eq!(import_all(&store, vec![again]).await, [Imported::Done]);
    assert!(
        !enqueue(&store, locked("refused")).await,
        "`d` has it still"
    );
}

/// Its end has released every other, and its start a lock until then.
pub async fn a_task_does_not_take_a_lock_that_it_has_released(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    let [.., retry, completed, archived] = places(now);
    for (until, place) in [
        (UniqueUntil::Start, retry),
        (UniqueUntil::Success, completed),
        (UniqueUntil::Success, archived),
    ] {
        let name = place.state().as_str().to_owned();
        bring(&store, [import(unique(&name, until, secs(100)), place)]).await;
        let next = unique(&format!("after-{name}"), until, secs(100));
        assert!(enqueue(&store, next).await, "{name}");
        assert!(store.delete_queue(&QUEUE.into(), true).await.unwrap());
    }
}

/// It lasts as long as it would have where the task was enqueued.
pub async fn a_window_continues_with_its_task(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    let [.., completed, _] = places(now);
    let window = |name, at| {
        let task = unique(name, UniqueUntil::Window, secs(100));
        changed(task, |task| task.enqueued_at = at)
    };
    bring(&store, [import(window("a", now - secs(60)), completed)]).await;
    assert!(!enqueue(&store, window("b", now)).await);
    harness.advance(secs(40)).await;
    assert!(enqueue(&store, window("c", now)).await);
    let [.., archived] = places(now);
    assert!(store.delete_queue(&QUEUE.into(), true).await.unwrap());
    bring(&store, [import(window("d", now - secs(100)), archived)]).await;
    assert!(enqueue(&store, window("e", now)).await, "it has ended");
}
