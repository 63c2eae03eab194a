//! Entries that fire again and again.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{
    Harness,
    fixture::{Fixture, id, secs, task, task_in, unique, with},
};
use crate::{
    broker::{Conflict, Fire, ScheduleEntry},
    task::{Headers, Name, TaskState, Timestamp, UniqueUntil},
};

const TICK: Timestamp = Timestamp::from_millis(1_000);
const NEXT: Timestamp = Timestamp::from_millis(2_000);

fn entry(name: &str) -> ScheduleEntry {
    ScheduleEntry {
        name: name.into(),
        rule: "@every 1s".into(),
        template: task("template"),
        next: Some(TICK),
        paused: false,
    }
}

/// The task's id is that of the tick, so that it is enqueued once.
fn fire(tick: Timestamp, next: Timestamp) -> Fire {
    let envelope = task(&format!("e-{}", tick.as_millis()));
    Fire {
        name: "e".into(),
        tick,
        envelope,
        next: Some(next),
    }
}

/// That is how an entry is changed.
pub async fn an_entry_replaces_one_of_the_same_name(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker
        .put_schedules(vec![entry("b"), entry("a")])
        .await
        .unwrap();
    let changed = ScheduleEntry {
        rule: "@daily".into(),
        paused: true,
        next: None,
        ..entry("b")
    };
    f.broker.put_schedules(vec![changed.clone()]).await.unwrap();
    assert_eq!(f.broker.schedules().await.unwrap(), [entry("a"), changed]);
}

/// And fires no more.
pub async fn a_removed_entry_is_gone(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.put_schedules(vec![entry("e")]).await.unwrap();
    let removed = f
        .broker
        .remove_schedules(&["e".into(), "unknown".into()])
        .await
        .unwrap();
    assert_eq!(removed, [true, false]);
    assert_eq!(
        f.broker.fire(vec![fire(TICK, NEXT)]).await.unwrap(),
        [Ok(false)]
    );
    assert_eq!(f.stats().await.total(), 0);
}

/// All of them may run at once.
pub async fn a_tick_fires_once_however_many_schedulers_try(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.put_schedules(vec![entry("e")]).await.unwrap();
    let mut schedulers = JoinSet::new();
    for _ in 0..8 {
        let broker = Arc::clone(&f.broker);
        schedulers
            .spawn(async move { broker.fire(vec![fire(TICK, NEXT)]).await.unwrap().remove(0) });
    }
    let fired = schedulers
        .join_all()
        .await
        .into_iter()
        .filter(|fired| *fired == Ok(true))
        .count();
    assert_eq!(fired, 1);
    assert_eq!(f.list(TaskState::Pending).await, ["e-1000"]);
    assert_eq!(f.broker.schedules().await.unwrap()[0].next, Some(NEXT));
}

/// Another scheduler was there first, or the entry was changed.
pub async fn a_tick_that_is_not_the_next_is_passed_over(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.put_schedules(vec![entry("e")]).await.unwrap();
    let later = Timestamp::from_millis(3_000);
    let fired = f
        .broker
        .fire(vec![fire(NEXT, later), fire(TICK, NEXT), fire(NEXT, later)])
        .await
        .unwrap();
    assert_eq!(fired, [Ok(false), Ok(true), Ok(true)]);
    assert_eq!(f.list(TaskState::Pending).await, ["e-1000", "e-2000"]);
}

/// A scheduler died between the two; or the last tick's task is not done and must not keep the schedule.
pub async fn a_tick_whose_task_is_there_already_moves_the_entry_on(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.put_schedules(vec![entry("e")]).await.unwrap();
    f.enqueue([fire(TICK, NEXT).envelope]).await;
    let fired = f.broker.fire(vec![fire(TICK, NEXT)]).await.unwrap();
    assert!(matches!(fired[0], Err(Conflict::Id { .. })));
    assert_eq!(f.broker.schedules().await.unwrap()[0].next, Some(NEXT));
    assert_eq!(f.list(TaskState::Pending).await, ["e-1000"]);
}

/// What a scheduler reads is what was put.
pub async fn everything_in_an_entry_is_kept(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut template = with(task_in("other", "template"), |options| {
        options.queue = "other".into();
        options.max_retry = 3;
        options.priority = 2;
        options.retention = secs(60);
    });
    template.headers = Headers::from_iter([("key", "value")]);
    let full = ScheduleEntry {
        name: "every/5 minutes: ä".into(),
        rule: "*/5 * * * * Europe/Berlin".into(),
        template,
        next: Some(Timestamp::from_millis(1_767_225_600_123)),
        paused: true,
    };
    f.broker.put_schedules(vec![full.clone()]).await.unwrap();
    assert_eq!(f.broker.schedules().await.unwrap(), [full]);
    assert_eq!(f.broker.queues().await.unwrap(), Vec::<Name>::new());
}

/// It is still there to be read, and fires no more.
pub async fn the_last_tick_leaves_the_entry(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.put_schedules(vec![entry("e")]).await.unwrap();
    let last = Fire {
        next: None,
        ..fire(TICK, NEXT)
    };
    assert_eq!(f.broker.fire(vec![last]).await.unwrap(), [Ok(true)]);
    let done = ScheduleEntry {
        next: None,
        ..entry("e")
    };
    assert_eq!(f.broker.schedules().await.unwrap(), [done]);
    assert_eq!(
        f.broker.fire(vec![fire(NEXT, NEXT)]).await.unwrap(),
        [Ok(false)]
    );
}

/// A scheduler that has read the old one fires nothing.
pub async fn a_tick_of_an_entry_that_was_replaced_is_passed_over(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let later = ScheduleEntry {
        next: Some(NEXT),
        ..entry("e")
    };
    f.broker.put_schedules(vec![entry("e")]).await.unwrap();
    f.broker.put_schedules(vec![later]).await.unwrap();
    let fired = f.broker.fire(vec![fire(TICK, NEXT)]).await.unwrap();
    assert_eq!(fired, [Ok(false)]);
    assert_eq!(f.stats().await.total(), 0);
}

/// The tick is left out, since the task of the one before is not done; the next one has its turn.
pub async fn a_tick_whose_unique_lock_is_held_moves_the_entry_on(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.put_schedules(vec![entry("e")]).await.unwrap();
    let unique_fire = |tick, next| {
        let fire = fire(tick, next);
        let envelope = unique(fire.envelope.id.as_str(), UniqueUntil::Success, secs(1_000));
        Fire { envelope, ..fire }
    };
    let later = Timestamp::from_millis(3_000);
    let fired = f
        .broker
        .fire(vec![unique_fire(TICK, NEXT), unique_fire(NEXT, later)])
        .await
        .unwrap();
    assert_eq!(fired[0], Ok(true));
    assert!(matches!(&fired[1], Err(Conflict::Unique { holder, .. }) if *holder == id("e-1000")));
    assert_eq!(f.broker.schedules().await.unwrap()[0].next, Some(later));
}
