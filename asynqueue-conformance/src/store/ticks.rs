//! Tasks of ticks: a queue accepts one for each tick.

use std::sync::Arc;

use asynqueue_core::{
    broker::{CLOCK_TOLERANCE, Conflict, NewTask, Store, TickGuard, When},
    task::{Envelope, Name, Timestamp},
};
use tokio::task::JoinSet;

use super::StoreHarness;
use crate::suite::fixture::{QUEUE, secs, task, task_in, task_ref};

const TICK: Timestamp = Timestamp::from_millis(1_000);
const NEXT: Timestamp = Timestamp::from_millis(2_000);

fn of(envelope: Envelope, guard: &str, tick: Timestamp) -> NewTask {
    let guard = guard.into();
    NewTask {
        tick: Some(TickGuard { guard, tick }),
        ..NewTask::new(envelope, When::Now)
    }
}

async fn enqueue(store: &Arc<dyn Store>, task: NewTask) -> Result<(), Conflict> {
    store.enqueue(vec![task]).await.unwrap().remove(0)
}

fn fired(name: &str) -> Result<(), Conflict> {
    let task = task_ref(name);
    Err(Conflict::Fired { task })
}

/// Under any id, and in any call.
pub async fn the_task_of_a_tick_is_accepted_once(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let batch = vec![
        of(task("a"), "e", TICK),
        of(task("b"), "e", TICK),
        NewTask::new(task("plain"), When::Now),
        of(task("c"), "e", NEXT),
    ];
    let answers = store.enqueue(batch).await.unwrap();
    assert_eq!(answers, [Ok(()), fired("b"), Ok(()), Ok(())]);
    assert_eq!(enqueue(&store, of(task("d"), "e", NEXT)).await, fired("d"));
    let later = Timestamp::from_millis(3_000);
    assert_eq!(enqueue(&store, of(task("e"), "e", later)).await, Ok(()));
}

/// A scheduler that fires it again learns that the tick has fired, and not that the task id exists.
pub async fn a_fired_tick_is_refused_before_other_conflicts(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    assert_eq!(enqueue(&store, of(task("a"), "e", TICK)).await, Ok(()));
    assert_eq!(enqueue(&store, of(task("a"), "e", TICK)).await, fired("a"));
    let next = enqueue(&store, of(task("a"), "e", NEXT)).await;
    assert!(matches!(next, Err(Conflict::Id { .. })), "{next:?}");
}

/// The tick has had no effect.
pub async fn a_refused_task_leaves_its_tick_open(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let taken = NewTask::new(task("a"), When::Now);
    assert_eq!(enqueue(&store, taken).await, Ok(()));
    let refused = enqueue(&store, of(task("a"), "e", TICK)).await;
    assert!(matches!(refused, Err(Conflict::Id { .. })), "{refused:?}");
    assert_eq!(enqueue(&store, of(task("b"), "e", TICK)).await, Ok(()));
}

/// An entry may move from one queue to another.
pub async fn guards_and_queues_do_not_mix(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    assert_eq!(enqueue(&store, of(task("a"), "e\n1", TICK)).await, Ok(()));
    assert_eq!(enqueue(&store, of(task("b"), "e\n2", TICK)).await, Ok(()));
    let elsewhere = of(task_in("other", "a"), "e\n1", TICK);
    assert_eq!(enqueue(&store, elsewhere).await, Ok(()));
}

/// The clock was set back a little.
pub async fn an_earlier_tick_is_refused(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    assert_eq!(enqueue(&store, of(task("a"), "e", NEXT)).await, Ok(()));
    assert_eq!(enqueue(&store, of(task("b"), "e", TICK)).await, fired("b"));
}

/// The clock was wrong.
pub async fn a_last_tick_far_in_the_future_is_ignored(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    let ahead = now + CLOCK_TOLERANCE + secs(1);
    assert_eq!(enqueue(&store, of(task("a"), "e", ahead)).await, Ok(()));
    assert_eq!(enqueue(&store, of(task("b"), "e", ahead)).await, fired("b"));
    assert_eq!(enqueue(&store, of(task("c"), "e", now)).await, Ok(()));
    let little = now + CLOCK_TOLERANCE;
    assert_eq!(enqueue(&store, of(task("d"), "e", little)).await, Ok(()));
    assert_eq!(enqueue(&store, of(task("e"), "e", now)).await, fired("e"));
}

/// After the entry was removed. Other ticks stay.
pub async fn a_forgotten_tick_is_accepted_again(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    for (id, guard) in [("a", "one"), ("b", "two")] {
        assert_eq!(enqueue(&store, of(task(id), guard, TICK)).await, Ok(()));
    }
    let forgotten = |queue: &str, guard: &str| (Name::from(queue), Name::from(guard));
    let some = [forgotten(QUEUE, "one"), forgotten("unknown", "two")];
    store.forget_ticks(&some).await.unwrap();
    assert_eq!(enqueue(&store, of(task("c"), "one", TICK)).await, Ok(()));
    assert_eq!(
        enqueue(&store, of(task("d"), "two", TICK)).await,
        fired("d")
    );
    assert_eq!(store.queues().await.unwrap(), [QUEUE]);
}

/// For any number of schedulers that fire it.
pub async fn one_of_racing_tasks_of_a_tick_is_accepted(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let mut racing = JoinSet::new();
    for n in 0..8 {
        let (store, task) = (Arc::clone(&store), of(task(&format!("t{n}")), "e", TICK));
        racing.spawn(async move { enqueue(&store, task).await });
    }
    let answers = racing.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
}
