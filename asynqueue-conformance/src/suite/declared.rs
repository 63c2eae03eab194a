//! Declarations of programs: restored if they are missing, unless they were removed on request.

use asynqueue_core::{
    broker::{REMOVALS_KEPT, Restored, ScheduleSwap, StateMark},
    task::Name,
};

use super::{
    Harness,
    fixture::{Fixture, secs},
    schedules::entry,
};

fn pair(name: &str) -> (Name, Name) {
    ("e".into(), Name::from(name))
}

/// The mark differs after each change, and only then.
pub async fn a_change_of_subscribers_changes_their_mark(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mark = async || f.broker.subscriptions_mark().await.unwrap();
    let mut seen = vec![mark().await];
    f.broker.subscribe(vec![pair("a")]).await.unwrap();
    seen.push(mark().await);
    f.broker.subscribe(vec![pair("b")]).await.unwrap();
    seen.push(mark().await);
    f.broker.unsubscribe(&[pair("a")]).await.unwrap();
    seen.push(mark().await);
    f.broker.subscribe(vec![pair("a")]).await.unwrap();
    seen.push(mark().await);
    assert_all_differ(&seen);
    f.broker
        .subscribe(vec![pair("a"), pair("b")])
        .await
        .unwrap();
    f.broker.restore_subscriptions(&[pair("a")]).await.unwrap();
    assert_eq!(mark().await, seen[4]);
}

fn assert_all_differ(seen: &[StateMark]) {
    for (place, mark) in seen.iter().enumerate() {
        assert!(!seen[..place].contains(mark), "{seen:?}");
    }
}

/// The returned mark is that of the complete state.
pub async fn missing_subscribers_are_restored(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.subscribe(vec![pair("a")]).await.unwrap();
    let declared = [pair("a"), pair("b"), ("f".into(), "c".into())];
    let found = f.broker.restore_subscriptions(&declared).await.unwrap();
    assert_eq!(found.restored, declared[1..]);
    assert_eq!(found.removed, []);
    assert_ne!(found.mark, StateMark::default());
    let all = f.broker.subscriptions().await.unwrap();
    assert_eq!(all.len(), 3, "{all:?}");
    let again = f.broker.restore_subscriptions(&declared).await.unwrap();
    assert_eq!((again.restored, again.removed), (vec![], vec![]));
    assert_eq!(f.broker.subscriptions_mark().await.unwrap(), again.mark);
}

/// Even if it was missing when it was removed; until a program subscribes it again.
pub async fn a_removed_subscriber_is_not_restored(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.subscribe(vec![pair("a")]).await.unwrap();
    let removed = f.broker.unsubscribe(&[pair("a"), pair("b")]).await.unwrap();
    assert_eq!(removed, [true, false]);
    let declared = [pair("a"), pair("b"), pair("c")];
    let found = f.broker.restore_subscriptions(&declared).await.unwrap();
    assert_eq!(found.removed, declared[..2]);
    assert_eq!(found.restored, declared[2..]);
    f.broker.subscribe(vec![pair("a")]).await.unwrap();
    let found = f.broker.restore_subscriptions(&declared).await.unwrap();
    assert_eq!((found.removed, found.restored), (vec![pair("b")], vec![]));
}

/// By then, each process of that time has seen the removal.
pub async fn the_removal_of_a_subscriber_is_forgotten_after_an_hour(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.unsubscribe(&[pair("a")]).await.unwrap();
    f.advance(REMOVALS_KEPT - secs(1)).await;
    f.broker.subscriptions_mark().await.unwrap();
    let found = f.broker.restore_subscriptions(&[pair("a")]).await.unwrap();
    assert_eq!(found.removed, [pair("a")]);
    f.advance(secs(1)).await;
    f.broker.subscriptions_mark().await.unwrap();
    let found = f.broker.restore_subscriptions(&[pair("a")]).await.unwrap();
    assert_eq!(found.restored, [pair("a")]);
}

/// A change of an existing entry does not: it cannot be the cause of a missing one.
pub async fn an_added_or_removed_entry_changes_the_mark_of_schedules(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mark = async || f.broker.schedules_mark().await.unwrap();
    let mut seen = vec![mark().await];
    f.broker.put_schedules(vec![entry("a")]).await.unwrap();
    seen.push(mark().await);
    let mut changed = entry("a");
    changed.paused = true;
    f.broker.put_schedules(vec![changed.clone()]).await.unwrap();
    assert_eq!(mark().await, seen[1]);
    let remove = ScheduleSwap {
        name: "a".into(),
        seen: Some(changed),
        new: None,
    };
    f.broker.swap_schedules(vec![remove]).await.unwrap();
    seen.push(mark().await);
    f.broker.put_schedules(vec![entry("a")]).await.unwrap();
    seen.push(mark().await);
    f.broker.remove_schedules(&["a".into()]).await.unwrap();
    seen.push(mark().await);
    assert_all_differ(&seen);
}

/// An existing entry stays, even if it was changed or paused.
pub async fn missing_entries_are_restored_and_others_stay(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut changed = entry("a");
    changed.paused = true;
    changed.rule = "@daily".into();
    f.broker.put_schedules(vec![changed.clone()]).await.unwrap();
    let declared = vec![entry("a"), entry("b")];
    let found = f.broker.restore_schedules(declared.clone()).await.unwrap();
    assert_eq!(found.restored, ["b"]);
    assert_eq!(found.removed, [""; 0]);
    assert_eq!(f.broker.schedules().await.unwrap(), [changed, entry("b")]);
    // It is due like any other.
    let due = f.broker.due_schedules(10).await.unwrap();
    assert_eq!(due.entries, [entry("b")]);
    let again = f.broker.restore_schedules(declared).await.unwrap();
    let nothing = Restored {
        mark: f.broker.schedules_mark().await.unwrap(),
        ..Restored::default()
    };
    assert_eq!(again, nothing);
    assert_ne!(again.mark, StateMark::default());
}

/// Whether it was removed by a swap or by name, and for an hour.
pub async fn a_removed_entry_is_not_restored(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker
        .put_schedules(vec![entry("a"), entry("b")])
        .await
        .unwrap();
    let remove = ScheduleSwap {
        name: "a".into(),
        seen: Some(entry("a")),
        new: None,
    };
    f.broker.swap_schedules(vec![remove]).await.unwrap();
    let removed = f
        .broker
        .remove_schedules(&["b".into(), "c".into()])
        .await
        .unwrap();
    assert_eq!(removed, [true, false]);
    let declared = || ["a", "b", "c", "d"].map(entry).to_vec();
    let found = f.broker.restore_schedules(declared()).await.unwrap();
    assert_eq!(found.removed, ["a", "b", "c"]);
    assert_eq!(found.restored, ["d"]);
    f.broker.put_schedules(vec![entry("a")]).await.unwrap();
    f.advance(REMOVALS_KEPT).await;
    let found = f.broker.restore_schedules(declared()).await.unwrap();
    assert_eq!(found.removed, [""; 0]);
    assert_eq!(found.restored, ["b", "c"]);
}

/// Repeating the call has no further effect.
pub async fn more_entries_than_fit_into_a_call_are_restored(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let declared: Vec<_> = (0..1_200).map(|n| entry(&format!("e-{n}"))).collect();
    let found = f.broker.restore_schedules(declared.clone()).await.unwrap();
    assert_eq!(found.restored.len(), 1_200);
    assert_eq!(f.broker.schedules().await.unwrap().len(), 1_200);
    let again = f.broker.restore_schedules(declared).await.unwrap();
    assert_eq!(again.restored, [""; 0]);
}
