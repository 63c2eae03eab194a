//! Changing and removing schedule entries, and what is left of them.

use std::sync::Arc;

use asynqueue_core::{
    broker::{CLOCK_TOLERANCE, ScheduleEntry, ScheduleSwap},
    task::Timestamp,
};
use tokio::task::JoinSet;

use crate::changed;

use super::{
    Harness,
    fixture::{Fixture, complete, secs, task_in},
    schedules::{NEXT, TICK, entry, fire},
};

fn swap(seen: Option<ScheduleEntry>, new: Option<ScheduleEntry>) -> ScheduleSwap {
    ScheduleSwap {
        name: "e".into(),
        seen,
        new,
    }
}

/// A caller that has seen another version decides again.
pub async fn an_entry_is_changed_only_if_it_is_unchanged(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let swapped = async |swaps| f.broker.swap_schedules(swaps).await.unwrap();
    let named = |rule: &str| changed(entry("e"), |entry| entry.rule = rule.into());
    let [one, two, three] = ["@hourly", "@daily", "@weekly"].map(named);
    let (one, two, three) = (
        || Some(one.clone()),
        || Some(two.clone()),
        || Some(three.clone()),
    );
    assert_eq!(swapped(vec![swap(two(), one())]).await, [false]);
    assert_eq!(f.broker.schedule(&"e".into()).await.unwrap(), None);
    let added = vec![swap(None, one()), swap(None, two())];
    assert_eq!(swapped(added).await, [true, false]);
    let changed = vec![
        swap(one(), two()),
        swap(one(), three()),
        swap(two(), three()),
    ];
    assert_eq!(swapped(changed).await, [true, false, true]);
    assert_eq!(f.broker.schedule(&"e".into()).await.unwrap(), three());
    let removed = vec![swap(two(), None), swap(three(), None), swap(three(), two())];
    assert_eq!(swapped(removed).await, [false, true, false]);
    assert_eq!(f.broker.schedules().await.unwrap(), []);
}

/// No change is overwritten by another that had read the entry before.
pub async fn racing_changes_of_an_entry_are_all_kept(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.put_schedules(vec![entry("e")]).await.unwrap();
    let mut changes = JoinSet::new();
    for _ in 0..8 {
        let broker = Arc::clone(&f.broker);
        changes.spawn(async move {
            loop {
                let seen = broker.schedule(&"e".into()).await.unwrap().unwrap();
                let mut new = seen.clone();
                new.jitter = seen.jitter + secs(1);
                let swaps = vec![swap(Some(seen), Some(new))];
                if broker.swap_schedules(swaps).await.unwrap() == [true] {
                    return;
                }
            }
        });
    }
    changes.join_all().await;
    let entry = f.broker.schedule(&"e".into()).await.unwrap().unwrap();
    assert_eq!(entry.jitter, secs(8));
}

/// However many callers change it at the same time.
pub async fn a_removed_entry_does_not_reappear(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    for _ in 0..20 {
        f.broker.put_schedules(vec![entry("e")]).await.unwrap();
        let mut changes = JoinSet::new();
        for n in 0..4 {
            let broker = Arc::clone(&f.broker);
            changes.spawn(async move {
                let Some(seen) = broker.schedule(&"e".into()).await.unwrap() else {
                    return;
                };
                let mut new = seen.clone();
                new.jitter = secs(n);
                let swaps = vec![swap(Some(seen), Some(new))];
                broker.swap_schedules(swaps).await.unwrap();
                broker.fire(vec![fire(TICK, NEXT)]).await.unwrap();
            });
        }
        let removed = f.broker.remove_schedules(&["e".into()]).await;
        assert_eq!(removed.unwrap(), [true]);
        changes.join_all().await;
        assert_eq!(f.broker.schedules().await.unwrap(), []);
        let due = f.broker.due_schedules(10).await.unwrap();
        assert_eq!((due.entries, due.next_due), (Vec::new(), None));
        assert_eq!(f.broker.schedule_events(&"e".into(), 10).await.unwrap(), []);
    }
}

/// Nothing of its ticks either: an entry that is added again starts over.
pub async fn nothing_is_left_of_a_removed_entry(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let fire_once = async || {
        f.broker.put_schedules(vec![entry("e")]).await.unwrap();
        let fired = f.broker.fire(vec![fire(TICK, NEXT)]).await.unwrap();
        if fired == [Ok(true)] {
            let leased = f.lease_one().await;
            f.settle(&leased, complete()).await;
        }
        fired
    };
    assert_eq!(fire_once().await, [Ok(true)]);
    assert_eq!(fire_once().await, [Ok(false)]);
    f.broker.remove_schedules(&["e".into()]).await.unwrap();
    assert_eq!(fire_once().await, [Ok(true)]);
    let seen = f.broker.schedule(&"e".into()).await.unwrap();
    let removed = f.broker.swap_schedules(vec![swap(seen, None)]).await;
    assert_eq!(removed.unwrap(), [true]);
    assert_eq!(f.broker.schedule_events(&"e".into(), 10).await.unwrap(), []);
    assert_eq!(fire_once().await, [Ok(true)]);
    let mut elsewhere = entry("e");
    elsewhere.template = task_in("other", "template");
    f.broker.put_schedules(vec![elsewhere]).await.unwrap();
    assert_eq!(fire_once().await, [Ok(true)]);
}

/// The clock was ahead when it was fired. If it was only slightly ahead, no tick is fired twice.
pub async fn a_last_tick_far_in_the_future_is_ignored(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let now = f.broker.now();
    let fire_at = async |tick: Timestamp| {
        let mut entry = entry("e");
        entry.next = Some(tick);
        f.broker.put_schedules(vec![entry]).await.unwrap();
        let fired = f.broker.fire(vec![fire(tick, tick + secs(1))]).await;
        fired.unwrap().remove(0)
    };
    let tomorrow = now + secs(24 * 3_600);
    assert_eq!(fire_at(tomorrow).await, Ok(true));
    assert_eq!(fire_at(tomorrow).await, Ok(false), "the same tick");
    assert_eq!(
        fire_at(tomorrow - secs(1)).await,
        Ok(false),
        "ahead as well"
    );
    assert_eq!(fire_at(now).await, Ok(true));
    assert_eq!(fire_at(now).await, Ok(false));
    assert_eq!(fire_at(now + CLOCK_TOLERANCE).await, Ok(true));
    assert_eq!(fire_at(now + secs(1)).await, Ok(false), "a little ahead");
}
