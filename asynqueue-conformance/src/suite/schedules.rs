//! Recurring entries.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{Conflict, Fire, FireOutcome, MissedTicks, ScheduleEntry, ScheduleEvent, Tick},
    task::{Envelope, Headers, Name, TaskRef, TaskState, Timestamp, UniqueUntil},
};
use tokio::task::JoinSet;

use crate::changed;

use super::{
    Harness,
    fixture::{Fixture, complete, id, secs, task, task_in, unique, with},
};

pub(super) const TICK: Timestamp = Timestamp::from_millis(1_000);
pub(super) const NEXT: Timestamp = Timestamp::from_millis(2_000);

pub(super) fn entry(name: &str) -> ScheduleEntry {
    let mut entry = ScheduleEntry::new(name, "@every 1s", task("template"));
    entry.next = Some(TICK);
    entry.missed = MissedTicks::Once;
    entry.source = "code".into();
    entry
}

/// The task's id is made from the tick, so that it is enqueued once.
pub(super) fn fire(tick: Timestamp, next: Timestamp) -> Fire {
    let envelope = task(&format!("e-{}", tick.as_millis()));
    Fire {
        name: "e".into(),
        tick,
        what: Tick::Enqueue(envelope, tick),
        next: Some(next),
    }
}

fn envelope_of(fire: Fire) -> Envelope {
    match fire.what {
        Tick::Enqueue(envelope, _) => envelope,
        Tick::Skip(reason) => panic!("{reason}"),
    }
}

/// An entry whose next tick is an hour after the clock's time.
fn entry_in_an_hour(f: &Fixture<'_>, name: &str) -> ScheduleEntry {
    let mut entry = entry(name);
    entry.next = Some(f.broker.now() + secs(3_600));
    entry
}

/// This is how an entry is changed.
pub async fn an_entry_replaces_one_of_the_same_name(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker
        .put_schedules(vec![entry("b"), entry("a")])
        .await
        .unwrap();
    let mut changed = entry("b");
    changed.rule = "@daily".into();
    changed.paused = true;
    changed.next = None;
    f.broker.put_schedules(vec![changed.clone()]).await.unwrap();
    assert_eq!(f.broker.schedules().await.unwrap(), [entry("a"), changed]);
}

/// It no longer fires.
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

/// All of them may run concurrently.
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

/// Another scheduler was first, or the entry was changed.
pub async fn a_tick_that_is_not_the_next_is_skipped(harness: &dyn Harness) {
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

/// A scheduler died between the two steps, or the last tick's task is not done, which must not stop the schedule.
pub async fn a_tick_whose_task_already_exists_advances_the_entry(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.put_schedules(vec![entry("e")]).await.unwrap();
    f.enqueue([envelope_of(fire(TICK, NEXT))]).await;
    let fired = f.broker.fire(vec![fire(TICK, NEXT)]).await.unwrap();
    assert!(matches!(fired[0], Err(Conflict::Id { .. })));
    assert_eq!(f.broker.schedules().await.unwrap()[0].next, Some(NEXT));
    assert_eq!(f.list(TaskState::Pending).await, ["e-1000"]);
}

/// A scheduler reads exactly what was stored.
pub async fn everything_in_an_entry_is_stored(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut template = with(task_in("other", "template"), |options| {
        options.queue = "other".into();
        options.max_retry = 3;
        options.priority = 2;
        options.retention = secs(60);
    });
    template.headers = Headers::from_iter([("key", "value")]);
    let mut full = ScheduleEntry::new("every/5 minutes: ä", "*/5 * * * * Europe/Berlin", template);
    full.next = Some(Timestamp::from_millis(1_767_225_600_123));
    full.paused = true;
    full.missed = MissedTicks::Last(7);
    full.jitter = Duration::from_millis(1_500);
    full.source = "file:schedules.toml".into();
    f.broker.put_schedules(vec![full.clone()]).await.unwrap();
    assert_eq!(f.broker.schedules().await.unwrap(), [full]);
    assert_eq!(f.broker.queues().await.unwrap(), Vec::<Name>::new());
}

/// It can still be read, but no longer fires.
pub async fn the_last_tick_leaves_the_entry(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.put_schedules(vec![entry("e")]).await.unwrap();
    let last = Fire {
        next: None,
        ..fire(TICK, NEXT)
    };
    assert_eq!(f.broker.fire(vec![last]).await.unwrap(), [Ok(true)]);
    let mut done = entry("e");
    done.next = None;
    assert_eq!(f.broker.schedules().await.unwrap(), [done]);
    assert_eq!(
        f.broker.fire(vec![fire(NEXT, NEXT)]).await.unwrap(),
        [Ok(false)]
    );
}

/// A scheduler that has read the old one fires nothing.
pub async fn a_tick_of_a_replaced_entry_is_skipped(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut later = entry("e");
    later.next = Some(NEXT);
    f.broker.put_schedules(vec![entry("e")]).await.unwrap();
    f.broker.put_schedules(vec![later]).await.unwrap();
    let fired = f.broker.fire(vec![fire(TICK, NEXT)]).await.unwrap();
    assert_eq!(fired, [Ok(false)]);
    assert_eq!(f.stats().await.total(), 0);
}

/// The tick is skipped because the task of the previous one is not done. The next tick is fired in its turn.
pub async fn a_tick_whose_unique_lock_is_held_advances_the_entry(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.put_schedules(vec![entry("e")]).await.unwrap();
    let unique_fire = |tick, next| {
        let id = envelope_of(fire(tick, next)).id;
        let envelope = unique(id.as_str(), UniqueUntil::Success, secs(1_000));
        Fire {
            what: Tick::Enqueue(envelope, tick),
            ..fire(tick, next)
        }
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

/// A scheduler that died after it had enqueued the task does no harm, however soon the task was done.
pub async fn a_tick_whose_task_is_done_is_not_enqueued_again(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.put_schedules(vec![entry("e")]).await.unwrap();
    assert_eq!(
        f.broker.fire(vec![fire(TICK, NEXT)]).await.unwrap(),
        [Ok(true)]
    );
    let leased = f.lease_one().await;
    f.settle(&leased, complete()).await;
    // The entry before the tick: no scheduler has advanced it.
    f.broker.put_schedules(vec![entry("e")]).await.unwrap();
    assert_eq!(
        f.broker.fire(vec![fire(TICK, NEXT)]).await.unwrap(),
        [Ok(false)]
    );
    assert_eq!(f.stats().await.total(), 0);
    assert_eq!(f.broker.schedules().await.unwrap()[0].next, Some(NEXT));
}

/// A scheduler whose clock is ahead enqueues it, and it waits for its time.
pub async fn a_task_that_is_fired_early_waits_for_its_tick(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let early = entry_in_an_hour(&f, "e");
    let tick = early.next.unwrap();
    f.broker.put_schedules(vec![early]).await.unwrap();
    let fired = f.broker.fire(vec![fire(tick, tick + secs(60))]).await;
    assert_eq!(fired.unwrap(), [Ok(true)]);
    let waiting = f.info(&format!("e-{}", tick.as_millis())).await.unwrap();
    assert_eq!(
        (waiting.state, waiting.at),
        (TaskState::Scheduled, Some(tick))
    );
}

/// However many others there are.
pub async fn only_due_entries_that_are_not_paused_are_listed(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let late = |name| changed(entry(name), |entry| entry.next = Some(NEXT));
    let mut paused = entry("paused");
    paused.paused = true;
    let mut over = entry("over");
    over.next = None;
    let future = entry_in_an_hour(&f, "future");
    let in_an_hour = future.next;
    f.broker
        .put_schedules(vec![late("b"), entry("a"), late("c"), paused, over, future])
        .await
        .unwrap();
    let due = f.broker.due_schedules(2).await.unwrap();
    assert_eq!(due.now, f.broker.now());
    assert_eq!(due.entries, [entry("a"), late("b")]);
    assert_eq!(due.next_due, Some(NEXT));
    let all = f.broker.due_schedules(10).await.unwrap();
    assert_eq!(all.entries, [entry("a"), late("b"), late("c")]);
    assert_eq!(all.next_due, in_an_hour);
}

/// It is listed when it is due, not before and not after.
pub async fn an_entry_is_due_at_its_tick_and_not_after_it_has_fired(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let entry = entry_in_an_hour(&f, "e");
    let tick = entry.next.unwrap();
    f.broker.put_schedules(vec![entry]).await.unwrap();
    assert_eq!(f.broker.due_schedules(10).await.unwrap().entries, []);
    f.advance(secs(3_600)).await;
    let due = f.broker.due_schedules(10).await.unwrap().entries;
    assert_eq!(due.len(), 1);
    let fired = f.broker.fire(vec![fire(tick, tick + secs(60))]).await;
    assert_eq!(fired.unwrap(), [Ok(true)]);
    let after = f.broker.due_schedules(10).await.unwrap();
    assert_eq!(
        (after.entries.len(), after.next_due),
        (0, Some(tick + secs(60)))
    );
    f.broker.remove_schedules(&["e".into()]).await.unwrap();
    let removed = f.broker.due_schedules(10).await.unwrap();
    assert_eq!(removed.next_due, None);
}

/// The scheduler that fires it has not yet read the pause.
pub async fn a_tick_of_a_paused_entry_is_skipped(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut paused = entry("e");
    paused.paused = true;
    f.broker.put_schedules(vec![paused]).await.unwrap();
    assert_eq!(
        f.broker.fire(vec![fire(TICK, NEXT)]).await.unwrap(),
        [Ok(false)]
    );
    assert_eq!(f.stats().await.total(), 0);
}

/// The entry advances, and nothing runs.
pub async fn a_skipped_tick_enqueues_nothing(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.put_schedules(vec![entry("e")]).await.unwrap();
    let skip = Fire {
        what: Tick::Skip("nobody was there".into()),
        ..fire(TICK, NEXT)
    };
    assert_eq!(f.broker.fire(vec![skip]).await.unwrap(), [Ok(true)]);
    assert_eq!(f.broker.schedules().await.unwrap()[0].next, Some(NEXT));
    assert_eq!(f.stats().await.total(), 0);
}

/// For users to inspect.
pub async fn the_outcomes_of_ticks_are_kept_newest_first(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.put_schedules(vec![entry("e")]).await.unwrap();
    let at = |millis| Timestamp::from_millis(millis);
    let skip = Fire {
        what: Tick::Skip("nobody was there".into()),
        ..fire(NEXT, at(3_000))
    };
    f.enqueue([task("e-3000")]).await;
    let last = fire(at(3_000), at(4_000));
    let fired = f.broker.fire(vec![fire(TICK, NEXT), skip, last]).await;
    assert_eq!(fired.unwrap().len(), 3);
    let now = f.broker.now();
    let event = |tick, outcome| ScheduleEvent::new(tick, now, outcome);
    let events = f.broker.schedule_events(&"e".into(), 10).await.unwrap();
    assert_eq!(events.len(), 3);
    assert!(matches!(&events[0].outcome, FireOutcome::Refused(why) if why.contains("q/e-3000")));
    assert_eq!(
        events[1],
        event(NEXT, FireOutcome::Skipped("nobody was there".into()))
    );
    let task = TaskRef::new("q", id("e-1000"));
    assert_eq!(events[2], event(TICK, FireOutcome::Enqueued(task)));
    let newest = f.broker.schedule_events(&"e".into(), 1).await.unwrap();
    assert_eq!(newest, events[..1]);
    f.broker.remove_schedules(&["e".into()]).await.unwrap();
    assert_eq!(f.broker.schedule_events(&"e".into(), 10).await.unwrap(), []);
}

/// Otherwise an entry that fires each second would fill the storage.
pub async fn the_history_of_an_entry_is_bounded(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.put_schedules(vec![entry("e")]).await.unwrap();
    let at = |n: u64| Timestamp::from_millis(n * 1_000);
    let count = ScheduleEvent::KEPT as u64 + 5;
    let skip = |n| Fire {
        what: Tick::Skip("not now".into()),
        ..fire(at(n), at(n + 1))
    };
    f.broker
        .fire((1..=count).map(skip).collect())
        .await
        .unwrap();
    let events = f.broker.schedule_events(&"e".into(), 1_000).await.unwrap();
    assert_eq!(events.len(), ScheduleEvent::KEPT);
    assert_eq!(events[0].tick, at(count));
}
