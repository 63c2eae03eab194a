//! Entries that change between enqueueing the task of a tick and moving the entry to its next tick.

use asynqueue_core::{
    broker::{Conflict, Control, Fire, ScheduleEntry, Schedules, SharedBroker, Tick},
    codec::{CodecName, MessagePack},
    memory::MemoryBroker,
    task::{Envelope, TaskId, TaskRef, Timestamp},
};
use bytes::Bytes;

use super::{
    faulty::{Faulty, shut},
    harness::until,
};

const TICK: Timestamp = Timestamp::from_millis(1_000);
const NEXT: Timestamp = Timestamp::from_millis(2_000);

fn task(id: &str) -> Envelope {
    let codec = CodecName::of::<MessagePack>();
    Envelope::new(id.parse().unwrap(), "event", codec, Bytes::new())
}

fn entry() -> ScheduleEntry {
    let mut entry = ScheduleEntry::new("e", "@every 1s", task("template"));
    entry.next = Some(TICK);
    entry.source = "code".into();
    entry
}

fn fire(tick: Timestamp, next: Timestamp) -> Fire {
    Fire {
        name: "e".into(),
        tick,
        what: Tick::Enqueue(task(&format!("e-{}", tick.as_millis())), tick),
        next: Some(next),
    }
}

type Fired = Vec<Result<bool, Conflict>>;

/// Fires ticks of the entry `e`, and does something after it was read and before its tasks are enqueued.
async fn fire_while(
    broker: &MemoryBroker,
    ticks: Vec<Fire>,
    meanwhile: impl Future<Output = ()>,
) -> Fired {
    broker.put_schedules(vec![entry()]).await.unwrap();
    let faulty = Faulty::new(broker);
    shut(&faulty.faults.enqueue_gate);
    let firing = {
        let scheduler: SharedBroker = faulty.clone().into();
        tokio::spawn(async move { scheduler.fire(ticks).await.unwrap() })
    };
    let enqueues = &faulty.faults.enqueues;
    until("its task is sent", async || {
        enqueues.load(std::sync::atomic::Ordering::SeqCst) > 0
    })
    .await;
    meanwhile.await;
    faulty.faults.enqueue_gate.add_permits(1);
    firing.await.unwrap()
}

/// Its task, which has ended, is no longer there to refuse another one with its id.
async fn end_task(broker: &MemoryBroker) {
    let first = TaskRef::new("default", TaskId::new("e-1000").unwrap());
    assert_eq!(broker.delete(&[first]).await.unwrap(), [true]);
}

async fn kept(broker: &MemoryBroker) -> Option<ScheduleEntry> {
    broker.schedule(&"e".into()).await.unwrap()
}

async fn history(broker: &MemoryBroker) -> Vec<Timestamp> {
    let events = broker.schedule_events(&"e".into(), 10).await.unwrap();
    events.iter().map(|event| event.tick).collect()
}

#[tokio::test]
async fn a_change_of_an_entry_while_it_fires_is_kept_and_the_entry_advances() {
    let broker = MemoryBroker::new();
    let mut changed = entry();
    changed.rule = "@daily".into();
    changed.paused = true;
    let change = async { broker.put_schedules(vec![changed.clone()]).await.unwrap() };
    let fired = fire_while(&broker, vec![fire(TICK, NEXT)], change).await;
    assert_eq!(fired, [Ok(true)]);
    let mut moved = changed.clone();
    moved.next = Some(NEXT);
    assert_eq!(kept(&broker).await, Some(moved));
    assert_eq!(history(&broker).await, [TICK]);
}

#[tokio::test]
async fn an_entry_whose_next_tick_is_set_while_it_fires_keeps_it() {
    let broker = MemoryBroker::new();
    let later = Timestamp::from_millis(9_000);
    let mut changed = entry();
    changed.next = Some(later);
    let change = async { broker.put_schedules(vec![changed.clone()]).await.unwrap() };
    let fired = fire_while(&broker, vec![fire(TICK, NEXT)], change).await;
    assert_eq!(fired, [Ok(true)], "its task was enqueued");
    assert_eq!(kept(&broker).await, Some(changed.clone()));
    assert_eq!(history(&broker).await, []);
}

#[tokio::test]
async fn an_entry_that_is_removed_while_it_fires_stays_removed() {
    let broker = MemoryBroker::new();
    let remove = async {
        broker.remove_schedules(&["e".into()]).await.unwrap();
    };
    let fired = fire_while(&broker, vec![fire(TICK, NEXT)], remove).await;
    assert_eq!(fired, [Ok(true)], "its task was enqueued");
    assert_eq!(kept(&broker).await, None);
    assert_eq!(history(&broker).await, []);
}

#[tokio::test]
async fn a_tick_whose_entry_was_removed_after_it_fired_is_not_enqueued_by_a_late_scheduler() {
    let broker = MemoryBroker::new();
    let fired_and_removed = async {
        let fired = broker.fire(vec![fire(TICK, NEXT)]).await.unwrap();
        assert_eq!(fired, [Ok(true)]);
        end_task(&broker).await;
        broker.remove_schedules(&["e".into()]).await.unwrap();
    };
    let fired = fire_while(&broker, vec![fire(TICK, NEXT)], fired_and_removed).await;
    assert_eq!(fired, [Ok(false)]);
}

#[tokio::test]
async fn a_tick_whose_entry_got_another_queue_is_not_enqueued_to_the_old_one_again() {
    let broker = MemoryBroker::new();
    let fired_and_moved = async {
        let fired = broker.fire(vec![fire(TICK, NEXT)]).await.unwrap();
        assert_eq!(fired, [Ok(true)]);
        end_task(&broker).await;
        let mut moved = entry();
        moved.template.queue = "elsewhere".into();
        moved.next = Some(NEXT);
        broker.put_schedules(vec![moved]).await.unwrap();
    };
    let fired = fire_while(&broker, vec![fire(TICK, NEXT)], fired_and_moved).await;
    assert_eq!(fired, [Ok(false)]);
}

#[tokio::test]
async fn an_entry_added_again_while_the_previous_one_fires_starts_over() {
    let broker = MemoryBroker::new();
    let again = async {
        broker.remove_schedules(&["e".into()]).await.unwrap();
        broker.put_schedules(vec![entry()]).await.unwrap();
    };
    let fired = fire_while(&broker, vec![fire(TICK, NEXT)], again).await;
    assert_eq!(
        fired,
        [Ok(true)],
        "the task of the previous one was enqueued"
    );
    assert_eq!(kept(&broker).await, Some(entry()));
    end_task(&broker).await;
    let fired = broker.fire(vec![fire(TICK, NEXT)]).await.unwrap();
    assert_eq!(fired, [Ok(true)]);
    assert_eq!(history(&broker).await, [TICK]);
}

#[tokio::test]
async fn ticks_fired_concurrently_by_another_scheduler_are_recorded_once() {
    let broker = MemoryBroker::new();
    let later = Timestamp::from_millis(3_000);
    let first = async {
        let fired = broker.fire(vec![fire(TICK, NEXT)]).await.unwrap();
        assert_eq!(fired, [Ok(true)]);
    };
    let both = vec![fire(TICK, NEXT), fire(NEXT, later)];
    let fired = fire_while(&broker, both, first).await;
    assert_eq!(fired, [Ok(false), Ok(true)]);
    assert_eq!(history(&broker).await, [NEXT, TICK]);
    let next = kept(&broker).await.and_then(|entry| entry.next);
    assert_eq!(next, Some(later));
}

#[tokio::test]
async fn a_skip_recorded_by_another_scheduler_is_not_recorded_again() {
    let broker = MemoryBroker::new();
    let later = Timestamp::from_millis(3_000);
    let skip = |tick, next| Fire {
        what: Tick::Skip("not now".into()),
        ..fire(tick, next)
    };
    let first = async {
        let fired = broker.fire(vec![skip(TICK, NEXT)]).await.unwrap();
        assert_eq!(fired, [Ok(true)]);
    };
    // The second has a task, so that there is something to wait for.
    let both = vec![skip(TICK, NEXT), fire(NEXT, later)];
    let fired = fire_while(&broker, both, first).await;
    assert_eq!(fired, [Ok(false), Ok(true)]);
    assert_eq!(history(&broker).await, [NEXT, TICK]);
}
