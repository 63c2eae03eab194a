//! The tests of an outbox.

#![allow(missing_docs, reason = "the name of a test says what it requires")]

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{NewTask, When},
    codec::{CodecName, MessagePack},
    outbox::{Done, Entry, Outbox, Take, Taken, Which},
    task::{Envelope, Name, TaskId, Timestamp},
};
use bytes::Bytes;

use super::OutboxHarness;

const TURN: Duration = Duration::from_secs(60);

/// A task of a queue, to run now.
fn task(queue: &str, id: &str) -> NewTask {
    let codec = CodecName::of::<MessagePack>();
    let id = TaskId::new(id).unwrap();
    let mut envelope = Envelope::new(id, "event", codec, Bytes::from_static(b"payload"));
    envelope.queue = queue.into();
    Arc::make_mut(&mut envelope.options).queue = queue.into();
    envelope.enqueued_at = Timestamp::from_millis(1_767_225_600_000);
    NewTask::new(envelope, When::Now)
}

fn tasks(queue: &str, ids: &[&str]) -> Vec<NewTask> {
    ids.iter().map(|id| task(queue, id)).collect()
}

/// What a relay of this name requests without limits.
fn all(relay: &Name) -> Take<'_> {
    Take {
        relay,
        turn: TURN,
        except: &[],
        limit: 1_000,
        bytes: 1_000_000,
    }
}

async fn take(outbox: &Arc<dyn Outbox>, take: &Take<'_>) -> (Vec<Entry>, bool) {
    match outbox.take(take).await.unwrap() {
        Taken::Turn { entries, more, .. } => (entries, more),
        Taken::Busy => panic!("another relay has the turn"),
    }
}

fn ids(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.task.id.as_str()).collect()
}

fn is_busy(taken: &Taken) -> bool {
    matches!(taken, Taken::Busy)
}

pub async fn entries_are_taken_in_the_order_of_their_commits(harness: &dyn OutboxHarness) {
    let outbox = harness.outbox().await;
    harness.commit(tasks("q", &["b", "a"])).await;
    harness.commit(tasks("q", &["c"])).await;
    let relay = Name::from("relay");
    let (entries, more) = take(&outbox, &all(&relay)).await;
    assert_eq!(ids(&entries), ["b", "a", "c"]);
    assert!(!more);
}

pub async fn a_number_grows_with_each_entry_and_never_changes(harness: &dyn OutboxHarness) {
    let outbox = harness.outbox().await;
    let relay = Name::from("relay");
    harness.commit(tasks("q", &["a", "b"])).await;
    let (first, _) = take(&outbox, &all(&relay)).await;
    assert!(first.iter().all(|entry| !entry.was_sent));
    assert!(first[0].number < first[1].number);
    harness.commit(tasks("p", &["c"])).await;
    // By another process, after the first has left.
    let other = harness.outbox().await;
    outbox.leave(&relay).await.unwrap();
    let (mut again, _) = take(&other, &all(&"other".into())).await;
    again.sort_by_key(|entry| entry.number);
    assert_eq!(ids(&again), ["a", "b", "c"]);
    let sent: Vec<bool> = again.iter().map(|entry| entry.was_sent).collect();
    assert_eq!(sent, [true, true, false]);
    assert_eq!(
        again[..2]
            .iter()
            .map(|entry| entry.number)
            .collect::<Vec<_>>(),
        [first[0].number, first[1].number]
    );
    assert!(again[2].number > first[1].number);
}

pub async fn entries_of_excepted_queues_are_left(harness: &dyn OutboxHarness) {
    let outbox = harness.outbox().await;
    for (queue, id) in [("q", "a"), ("p", "b"), ("q", "c"), ("r", "d")] {
        harness.commit(tasks(queue, &[id])).await;
    }
    let relay = Name::from("relay");
    let except = [Name::from("q"), Name::from("unknown")];
    let some = Take {
        except: &except,
        ..all(&relay)
    };
    let (entries, _) = take(&outbox, &some).await;
    assert_eq!(ids(&entries), ["b", "d"]);
    let (mut entries, _) = take(&outbox, &all(&relay)).await;
    entries.retain(|entry| entry.task.queue == "q");
    assert_eq!(ids(&entries), ["a", "c"]);
    assert!(entries.iter().all(|entry| !entry.was_sent));
}

pub async fn at_most_the_limit_is_taken(harness: &dyn OutboxHarness) {
    let outbox = harness.outbox().await;
    harness.commit(tasks("q", &["a", "b", "c"])).await;
    let relay = Name::from("relay");
    let two = Take {
        limit: 2,
        ..all(&relay)
    };
    let (entries, more) = take(&outbox, &two).await;
    assert_eq!(ids(&entries), ["a", "b"]);
    assert!(more);
    // To keep the turn.
    let none = Take {
        limit: 0,
        ..all(&relay)
    };
    assert_eq!(take(&outbox, &none).await.0, []);
}

pub async fn about_the_bytes_requested_are_taken_and_at_least_one_entry(
    harness: &dyn OutboxHarness,
) {
    let outbox = harness.outbox().await;
    harness.commit(tasks("q", &["a", "b", "c"])).await;
    let relay = Name::from("relay");
    let small = Take {
        bytes: 1,
        ..all(&relay)
    };
    let (entries, more) = take(&outbox, &small).await;
    assert_eq!(ids(&entries), ["a"]);
    assert!(more);
}

pub async fn a_task_is_stored_with_everything(harness: &dyn OutboxHarness) {
    let outbox = harness.outbox().await;
    let mut rich = task("tenants/acme ü", "order/42");
    rich.envelope.headers.insert("key", "value");
    rich.envelope.payload = Bytes::from(vec![0, 255, 13, 10, 39]);
    rich.when = When::At(Timestamp::from_millis(1_900_000_000_123));
    let plain = task("tenants/acme ü", "plain");
    harness.commit(vec![rich.clone(), plain.clone()]).await;
    let (entries, _) = take(&outbox, &all(&"relay".into())).await;
    for (entry, task) in entries.iter().zip([rich, plain]) {
        assert_eq!(entry.task.event, "event");
        let stored = entry.task.decode().unwrap();
        assert_eq!((stored.envelope, stored.when), (task.envelope, task.when));
    }
}

pub async fn one_relay_has_the_turn(harness: &dyn OutboxHarness) {
    let (outbox, other) = (harness.outbox().await, harness.outbox().await);
    harness.commit(tasks("q", &["a"])).await;
    let (one, two) = (Name::from("one"), Name::from("two"));
    let taken = outbox.take(&all(&one)).await.unwrap();
    assert!(matches!(taken, Taken::Turn { is_new: true, .. }));
    assert!(is_busy(&other.take(&all(&two)).await.unwrap()));
    let taken = outbox.take(&all(&one)).await.unwrap();
    assert!(matches!(taken, Taken::Turn { is_new: false, .. }));
    assert!(!other.finish(&two, &[]).await.unwrap());
    // Not its own.
    other.leave(&two).await.unwrap();
    assert!(is_busy(&other.take(&all(&two)).await.unwrap()));
}

pub async fn a_turn_that_was_left_is_free(harness: &dyn OutboxHarness) {
    let (outbox, other) = (harness.outbox().await, harness.outbox().await);
    let (one, two) = (Name::from("one"), Name::from("two"));
    take(&outbox, &all(&one)).await;
    outbox.leave(&one).await.unwrap();
    let taken = other.take(&all(&two)).await.unwrap();
    assert!(matches!(taken, Taken::Turn { is_new: true, .. }));
    other.leave(&two).await.unwrap();
    // Also for the first, which has to forget what it has sent.
    let taken = outbox.take(&all(&one)).await.unwrap();
    assert!(matches!(taken, Taken::Turn { is_new: true, .. }));
}

/// Takes the turn for a moment, and lets another relay take it after that.
async fn pass_on(outbox: &Arc<dyn Outbox>, one: &Name, two: &Name) {
    let short = Take {
        turn: Duration::from_millis(100),
        ..all(one)
    };
    take(outbox, &short).await;
    let next = Take {
        relay: two,
        ..short
    };
    let limit = tokio::time::Instant::now() + Duration::from_secs(30);
    while is_busy(&outbox.take(&next).await.unwrap()) {
        assert!(tokio::time::Instant::now() < limit, "the turn does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn a_turn_ends_after_its_time(harness: &dyn OutboxHarness) {
    let outbox = harness.outbox().await;
    let (one, two) = (Name::from("one"), Name::from("two"));
    pass_on(&outbox, &one, &two).await;
    assert!(!outbox.finish(&one, &[]).await.unwrap());
    assert!(outbox.finish(&two, &[]).await.unwrap());
}

pub async fn outcomes_are_recorded_after_the_time_of_the_turn_unless_another_relay_has_it(
    harness: &dyn OutboxHarness,
) {
    let outbox = harness.outbox().await;
    harness.commit(tasks("q", &["a", "b"])).await;
    let (one, two) = (Name::from("one"), Name::from("two"));
    let none = Take {
        turn: Duration::ZERO,
        ..all(&one)
    };
    let (entries, _) = take(&outbox, &none).await;
    let done = [Done::Remove(entries[0].place)];
    assert!(outbox.finish(&one, &done).await.unwrap());
    pass_on(&outbox, &one, &two).await;
    let done = [Done::Remove(entries[1].place)];
    assert!(!outbox.finish(&one, &done).await.unwrap());
    assert_eq!(outbox.size().await.unwrap().waiting, 1);
}

pub async fn a_removed_entry_is_gone(harness: &dyn OutboxHarness) {
    let outbox = harness.outbox().await;
    harness.commit(tasks("q", &["a", "b", "c"])).await;
    let relay = Name::from("relay");
    let (entries, _) = take(&outbox, &all(&relay)).await;
    let done = [entries[0].place, entries[2].place].map(Done::Remove);
    assert!(outbox.finish(&relay, &done).await.unwrap());
    assert_eq!(ids(&take(&outbox, &all(&relay)).await.0), ["b"]);
    // It does not exist any more.
    assert!(outbox.finish(&relay, &done).await.unwrap());
    // Places are not used again.
    harness.commit(tasks("q", &["d"])).await;
    let (left, _) = take(&outbox, &all(&relay)).await;
    assert_eq!(ids(&left), ["b", "d"]);
    assert!(left[1].place > entries[2].place);
}

/// Fails the entries with these ids.
async fn fail(outbox: &Arc<dyn Outbox>, relay: &Name, ids: &[&str]) {
    let (entries, _) = take(outbox, &all(relay)).await;
    let fails = |entry: &&Entry| ids.contains(&entry.task.id.as_str());
    let done = entries.iter().filter(fails);
    let done: Vec<_> = done
        .map(|entry| Done::Fail(entry.place, format!("{} is too large", entry.task.id)))
        .collect();
    assert!(outbox.finish(relay, &done).await.unwrap());
}

pub async fn a_failed_entry_is_kept_with_its_reason(harness: &dyn OutboxHarness) {
    let outbox = harness.outbox().await;
    harness.commit(tasks("q", &["a", "b"])).await;
    let relay = Name::from("relay");
    fail(&outbox, &relay, &["a"]).await;
    assert_eq!(ids(&take(&outbox, &all(&relay)).await.0), ["b"]);
    let failed = outbox.failed(0, 10).await.unwrap();
    assert_eq!(failed.len(), 1);
    let entry = &failed[0];
    assert_eq!(
        (&*entry.queue, &*entry.id, &*entry.event),
        ("q", "a", "event")
    );
    assert_eq!(entry.reason, "a is too large");
    assert!(entry.at > Timestamp::from_millis(1_700_000_000_000));
}

pub async fn a_retried_entry_gets_a_new_number_behind_the_others(harness: &dyn OutboxHarness) {
    let outbox = harness.outbox().await;
    harness.commit(tasks("q", &["a", "b"])).await;
    let relay = Name::from("relay");
    let (before, _) = take(&outbox, &all(&relay)).await;
    fail(&outbox, &relay, &["a"]).await;
    let place = before[0].place;
    assert_eq!(outbox.retry(Which::These(&[place, 999])).await.unwrap(), 1);
    let (entries, _) = take(&outbox, &all(&relay)).await;
    assert_eq!(ids(&entries), ["b", "a"]);
    assert!(!entries[1].was_sent && entries[1].number > before[1].number);
    assert_eq!(entries[1].place, place);
    assert_eq!(outbox.failed(0, 10).await.unwrap(), []);
    fail(&outbox, &relay, &["a", "b"]).await;
    assert_eq!(outbox.retry(Which::All).await.unwrap(), 2);
}

pub async fn a_waiting_entry_is_neither_retried_nor_deleted(harness: &dyn OutboxHarness) {
    let outbox = harness.outbox().await;
    harness.commit(tasks("q", &["a", "b", "c"])).await;
    let relay = Name::from("relay");
    let (entries, _) = take(&outbox, &all(&relay)).await;
    let places: Vec<u64> = entries.iter().map(|entry| entry.place).collect();
    assert_eq!(outbox.delete(Which::All).await.unwrap(), 0);
    assert_eq!(outbox.retry(Which::These(&places)).await.unwrap(), 0);
    let (again, _) = take(&outbox, &all(&relay)).await;
    assert!(again.iter().all(|entry| entry.was_sent));
    fail(&outbox, &relay, &["b"]).await;
    assert_eq!(outbox.delete(Which::These(&places)).await.unwrap(), 1);
    assert_eq!(ids(&take(&outbox, &all(&relay)).await.0), ["a", "c"]);
    fail(&outbox, &relay, &["a"]).await;
    assert_eq!(outbox.delete(Which::All).await.unwrap(), 1);
    assert_eq!(outbox.failed(0, 10).await.unwrap(), []);
}

pub async fn failed_entries_are_listed_a_page_at_a_time(harness: &dyn OutboxHarness) {
    let outbox = harness.outbox().await;
    harness.commit(tasks("q", &["a", "b", "c", "d"])).await;
    fail(&outbox, &"relay".into(), &["a", "b", "d"]).await;
    let page = outbox.failed(0, 2).await.unwrap();
    let ids = |page: &[asynqueue_core::outbox::FailedEntry]| -> Vec<String> {
        page.iter().map(|entry| entry.id.clone()).collect()
    };
    assert_eq!(ids(&page), ["a", "b"]);
    let page = outbox.failed(page[1].place, 2).await.unwrap();
    assert_eq!(ids(&page), ["d"]);
}

pub async fn the_size_counts_waiting_and_failed_entries(harness: &dyn OutboxHarness) {
    let outbox = harness.outbox().await;
    let size = outbox.size().await.unwrap();
    assert_eq!((size.waiting, size.failed, size.oldest), (0, 0, None));
    harness.commit(tasks("q", &["a"])).await;
    let first = outbox.size().await.unwrap();
    harness.commit(tasks("q", &["b", "c"])).await;
    fail(&outbox, &"relay".into(), &["b"]).await;
    let size = outbox.size().await.unwrap();
    assert_eq!((size.waiting, size.failed), (2, 1));
    assert_eq!(size.oldest, first.oldest);
    assert!(size.oldest.is_some_and(|at| at <= size.now));
}
