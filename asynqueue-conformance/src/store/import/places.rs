//! Tasks arrive in each state with their times, and continue from there.

use std::sync::Arc;

use asynqueue_core::broker::{Import, Keep, Page, Signal, TaskPlace, all_of};
use futures_util::StreamExt;

use super::{
    PATIENCE, bring, enqueue, forward, import, import_all, info, lease, pending, places, stats,
};
use crate::{
    store::StoreHarness,
    suite::fixture::{QUEUE, failed, ids, prioritised, retained, secs, task},
};

/// With its times, its failures and its result, whether its times have passed or not.
pub async fn each_state_arrives_exactly(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    let of = |place: &TaskPlace| {
        let mut task = prioritised(place.state().as_str(), 3);
        task.enqueued_at = now - secs(1_000);
        let envelope = failed(&Arc::new(task));
        Import::new(envelope, place.clone())
    };
    let tasks: Vec<_> = places(now).iter().map(of).collect();
    bring(&store, tasks.clone()).await;
    assert_eq!(store.queues().await.unwrap(), [QUEUE]);
    for task in tasks {
        let state = task.place.state();
        let found = info(&store, state.as_str()).await;
        assert_eq!((found.state, &found.envelope), (state, &task.envelope));
        assert_eq!(found.place(), Some(task.place));
        let listed = store
            .list(&QUEUE.into(), state, Page::default())
            .await
            .unwrap();
        assert_eq!(listed.tasks, [found], "the list of its state has it alone");
    }
}

/// First in, first out, by priority.
pub async fn pending_tasks_are_leased_in_their_order_behind_the_others(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    assert!(enqueue(&store, task("first")).await);
    let urgent = prioritised("urgent", 5);
    let tasks = [task("b"), task("a"), urgent].map(|task| import(task, pending(now - secs(60))));
    bring(&store, tasks).await;
    let leased = lease(&store, 10).await;
    assert_eq!(ids(&leased), ["urgent", "first", "b", "a"]);
    assert_eq!(leased[2].pending_since, Some(now - secs(60)));
}

/// A task that is due already stays in its state until then.
pub async fn due_tasks_are_forwarded_and_not_before(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    let at = |due| [TaskPlace::Scheduled { due }, TaskPlace::Retry { due }];
    let [due, retried] = at(now - secs(10));
    let [later, retried_later] = at(now + secs(10));
    let tasks = [
        ("a", due),
        ("b", retried),
        ("c", later),
        ("d", retried_later),
    ];
    bring(&store, tasks.map(|(name, place)| import(task(name), place))).await;
    assert_eq!(lease(&store, 10).await.len(), 0);
    assert_eq!(forward(&store).await, 2);
    harness.advance(secs(9)).await;
    assert_eq!(forward(&store).await, 0);
    harness.advance(secs(1)).await;
    assert_eq!(forward(&store).await, 2);
    assert_eq!(ids(&lease(&store, 10).await), ["a", "b", "c", "d"]);
}

/// Its retention and its time in the archive count from where it finished.
pub async fn finished_tasks_are_trimmed_at_their_time(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    let completed = TaskPlace::Completed {
        until: now + secs(10),
        result: None,
    };
    let archived = TaskPlace::Archived { at: now - secs(90) };
    let tasks = [
        (retained("a", secs(1_000)), completed),
        (task("b"), archived),
    ];
    bring(&store, tasks.map(|(task, place)| import(task, place))).await;
    let keep = Keep::new(secs(100), 10);
    let trim = async || all_of(store.trim(&[QUEUE.into()], keep, 10).await).unwrap()[0].deleted();
    assert_eq!(trim().await, 0);
    harness.advance(secs(10)).await;
    assert_eq!(trim().await, 2);
    assert_eq!(stats(&store).await.archive.trimmed_by_age, 1);
}

/// Otherwise idle servers would find it only when they poll.
pub async fn a_pending_and_a_due_task_are_signalled(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    let mut signals = store.signals(&[QUEUE.into()]).await.unwrap();
    let mut next = async || {
        let signal = tokio::time::timeout(PATIENCE, signals.next()).await;
        signal.expect("a signal in time").expect("an open stream")
    };
    bring(&store, [import(task("a"), pending(now))]).await;
    assert_eq!(next().await, Signal::Pending(QUEUE.into()));
    let due = now + secs(60);
    let places = [
        TaskPlace::Scheduled { due },
        TaskPlace::Retry { due: due - secs(1) },
    ];
    for (name, place) in ["b", "c"].into_iter().zip(places) {
        let due = place.clone();
        bring(&store, [import(task(name), place)]).await;
        let (TaskPlace::Scheduled { due } | TaskPlace::Retry { due }) = due else {
            unreachable!("both have a time");
        };
        assert_eq!(next().await, Signal::Due(QUEUE.into(), due));
    }
}

/// Over several calls of the storage.
pub async fn a_large_batch_arrives_completely_and_in_order(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    let names: Vec<_> = (0..1_200).map(|n| format!("{n:04}")).collect();
    let tasks = names.iter().map(|name| import(task(name), pending(now)));
    bring(&store, tasks).await;
    assert_eq!(ids(&lease(&store, 2_000).await), names);
    assert_eq!(import_all(&store, Vec::new()).await, []);
}
