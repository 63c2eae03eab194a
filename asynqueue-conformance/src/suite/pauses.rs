//! The records of pauses: who paused a queue or a schedule entry, when and why.

use std::sync::Arc;

use asynqueue_core::{
    broker::{Pausable, Pause, ScheduleEntry},
    inspector::{Actor, Inspector},
};

use super::{
    Harness,
    fixture::{Fixture, QUEUE, task, tasks},
};

const REASON: &str = "the bank rejects all charges";

fn inspector(f: &Fixture<'_>, name: &str) -> Inspector {
    let actor = Actor::new(name).from_address("203.0.113.7");
    Inspector::new(Arc::clone(&f.broker)).acting_as(actor)
}

async fn pause_of(f: &Fixture<'_>, of: Pausable) -> Option<Pause> {
    f.broker.pauses(&[of]).await.unwrap().remove(0)
}

fn queue() -> Pausable {
    Pausable::Queue(QUEUE.into())
}

/// By whom, since when and why.
pub async fn a_pause_is_recorded_until_the_queue_is_resumed(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let (ada, queues) = (inspector(&f, "ada"), [QUEUE.into()]);
    f.enqueue(tasks(["a"])).await;
    assert_eq!(pause_of(&f, queue()).await, None);
    let before = f.broker.now();
    ada.pause_because(&queues, REASON).await.unwrap();
    let pause = pause_of(&f, queue()).await.unwrap();
    assert_eq!(pause.by.as_ref(), ada.actor());
    assert_eq!(pause.reason.as_deref(), Some(REASON));
    assert!(pause.since >= before, "{pause:?}");
    // The first pause counts.
    let bob = inspector(&f, "bob");
    bob.pause(&queues).await.unwrap();
    assert_eq!(pause_of(&f, queue()).await, Some(pause));
    bob.resume(&queues).await.unwrap();
    assert_eq!(pause_of(&f, queue()).await, None);
    bob.pause(&queues).await.unwrap();
    let pause = pause_of(&f, queue()).await.unwrap();
    assert_eq!((pause.by.as_ref(), pause.reason), (bob.actor(), None));
}

/// Otherwise a later pause by a program that records nothing would seem to be an earlier user's.
pub async fn a_deleted_queue_has_no_record_of_a_pause(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let (ada, queues) = (inspector(&f, "ada"), [QUEUE.into()]);
    f.enqueue(tasks(["a"])).await;
    ada.pause(&queues).await.unwrap();
    assert!(!ada.delete_queue(&queues[0], false).await.unwrap());
    assert!(pause_of(&f, queue()).await.is_some());
    assert!(ada.delete_queue(&queues[0], true).await.unwrap());
    assert_eq!(pause_of(&f, queue()).await, None);
}

/// A queue and an entry of the same name are separate.
pub async fn the_pause_of_a_schedule_entry_is_recorded(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let (ada, entry) = (inspector(&f, "ada"), Pausable::Schedule(QUEUE.into()));
    let add = || async {
        let entry = ScheduleEntry::new(QUEUE, "@every 1h", task("t"));
        f.broker.put_schedules(vec![entry]).await.unwrap();
    };
    add().await;
    let timetable = ada.timetable();
    timetable.pause_because(QUEUE, REASON).await.unwrap();
    timetable.pause(QUEUE).await.unwrap();
    let pause = pause_of(&f, entry.clone()).await.unwrap();
    assert_eq!(pause.by.as_ref(), ada.actor());
    assert_eq!(pause.reason.as_deref(), Some(REASON));
    assert_eq!(pause_of(&f, queue()).await, None);
    timetable.resume(QUEUE).await.unwrap();
    assert_eq!(pause_of(&f, entry.clone()).await, None);
    timetable.pause(QUEUE).await.unwrap();
    assert!(timetable.remove(QUEUE).await.unwrap());
    assert_eq!(pause_of(&f, entry).await, None);
}
