//! Schedulers on a broker that fails in part, and whose clock is wrong for a while.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use asynqueue_core::{
    broker::{Broker, Durability, FireOutcome, Inspect, Page, Schedules},
    memory::MemoryBroker,
    scheduler::{Entry, Scheduler, SchedulerHandle, Timetable},
    task::TaskState,
    testing::TestClock,
};

use crate::{
    faulty::Faulty,
    harness::{job, until},
};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3_600);

fn entry(name: &str) -> Entry {
    Entry::new(name, "* * * * *", job(1)).unwrap()
}

/// A broker whose clock shows half past a minute.
fn clocked() -> (TestClock, MemoryBroker) {
    let clock = TestClock::default();
    clock.advance(MINUTE / 2);
    (clock.clone(), MemoryBroker::with_clock(clock))
}

async fn start(broker: &Faulty, names: &[&str]) -> SchedulerHandle {
    let mut scheduler = Scheduler::builder(broker.clone());
    for name in names {
        scheduler = scheduler.entry(entry(name));
    }
    scheduler.start().await.unwrap()
}

/// How many tasks an entry has enqueued.
async fn enqueued(broker: &MemoryBroker, name: &str) -> usize {
    let page = Page::first(1_000);
    let queue = "default".into();
    let listed = broker.list(&queue, TaskState::Pending, page).await;
    let tasks = listed.unwrap().tasks;
    let of_entry = tasks
        .iter()
        .filter(|task| task.envelope.id.as_str().split('@').next() == Some(name));
    of_entry.count()
}

async fn until_enqueued(broker: &MemoryBroker, name: &str, count: usize) {
    until(&format!("{name} is enqueued {count} times"), async || {
        enqueued(broker, name).await == count
    })
    .await;
}

#[tokio::test]
async fn a_failing_entry_does_not_delay_others_and_fires_when_it_recovers() {
    let (clock, broker) = clocked();
    let faulty = Faulty::new(&broker);
    *faulty.faults.unfired.lock().unwrap() = Some("bad");
    let scheduler = start(&faulty, &["bad", "good"]).await;
    for n in 1..=4 {
        clock.advance(MINUTE);
        until_enqueued(&broker, "good", n).await;
    }
    assert_eq!(enqueued(&broker, "bad").await, 0);
    *faulty.faults.unfired.lock().unwrap() = None;
    until_enqueued(&broker, "bad", 1).await;
    scheduler.shutdown().await;
}

#[tokio::test]
async fn an_entry_whose_queue_does_not_respond_does_not_delay_others() {
    let (clock, broker) = clocked();
    let faulty = Faulty::new(&broker);
    *faulty.faults.unanswered.lock().unwrap() = Some("bad");
    let scheduler = start(&faulty, &["bad", "good"]).await;
    for n in 1..=4 {
        clock.advance(MINUTE);
        until_enqueued(&broker, "good", n).await;
    }
    scheduler.shutdown().await;
}

#[tokio::test]
async fn failing_entries_do_not_keep_others_from_firing() {
    let (clock, broker) = clocked();
    let faulty = Faulty::new(&broker);
    *faulty.faults.unfired.lock().unwrap() = Some("bad");
    let timetable = Timetable::new(broker.clone());
    for n in 0..250 {
        timetable.put(entry(&format!("bad-{n}"))).await.unwrap();
    }
    clock.advance(MINUTE);
    let scheduler = start(&faulty, &["good"]).await;
    clock.advance(MINUTE);
    until_enqueued(&broker, "good", 1).await;
    scheduler.shutdown().await;
}

#[tokio::test]
async fn entries_fire_again_after_the_clock_was_ahead() {
    let (clock, broker) = clocked();
    let scheduler = start(&Faulty::new(&broker), &["e"]).await;
    let right = broker.now();
    clock.advance(DAY);
    until_enqueued(&broker, "e", 1).await;
    clock.set(right);
    let next = async || broker.schedules().await.unwrap()[0].next.unwrap();
    until("the next tick is set back", async || {
        next().await <= right + MINUTE
    })
    .await;
    let events = broker.schedule_events(&"e".into(), 1).await.unwrap();
    assert!(
        matches!(&events[0].outcome, FireOutcome::Skipped(why) if why.contains("clock moved backwards"))
    );
    for n in 2..=4 {
        clock.advance(MINUTE);
        until_enqueued(&broker, "e", n).await;
    }
    scheduler.shutdown().await;
}

#[tokio::test]
async fn a_small_step_back_of_the_clock_fires_no_tick_twice() {
    let (clock, broker) = clocked();
    let faulty = Faulty::new(&broker);
    let scheduler = start(&faulty, &["e"]).await;
    clock.advance(MINUTE);
    until_enqueued(&broker, "e", 1).await;
    let fired = broker.schedules().await.unwrap();
    for back in [5, 45] {
        let right = broker.now();
        clock.set(right - Duration::from_secs(back));
        let before = faulty.faults.turns.load(SeqCst);
        // In one turn it detects the step, in the next it reads all entries.
        until("it has read all entries", async || {
            faulty.faults.turns.load(SeqCst) > before + 2
        })
        .await;
        clock.set(right);
    }
    assert_eq!(enqueued(&broker, "e").await, 1);
    assert_eq!(broker.schedules().await.unwrap(), fired);
    scheduler.shutdown().await;
}

#[tokio::test]
async fn a_durability_in_the_options_of_an_entry_is_rejected() {
    let (_, broker) = clocked();
    let durable = entry("e").options(|call| call.durability(Durability::Replicas(1)));
    let timetable = Timetable::new(broker);
    let error = timetable.put(durable).await.expect_err("refused");
    let text = error.to_string();
    assert!(
        text.contains("`e`") && text.contains("set it there"),
        "{text}"
    );
}

/// It is cut off: the next scheduler catches up on what was under way.
#[tokio::test]
async fn a_scheduler_stops_although_its_broker_does_not_respond() {
    let (clock, memory) = clocked();
    let broker = Faulty::new(&memory);
    let scheduler = start(&broker, &["stuck"]).await;
    *broker.faults.unanswered.lock().unwrap() = Some("stuck");
    let turns = broker.faults.turns.load(SeqCst);
    clock.advance(MINUTE);
    until("a turn", async || broker.faults.turns.load(SeqCst) > turns).await;
    let stops = tokio::time::timeout(MINUTE, scheduler.shutdown());
    stops.await.expect("stops");
}
