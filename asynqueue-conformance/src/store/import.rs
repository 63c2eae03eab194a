//! Tasks and statistics of another store arrive exactly as they were there.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{
        Apart, ArchiveStats, Finished, HourStats, Import, Imported, Keep, LeaseRequest, Leased,
        NewTask, Outcome, Page, Part, QueueStats, SetApart, Signal, Store, TaskInfo, TaskPlace,
        Totals, When, all_of,
    },
    task::{Envelope, Name, TaskState, Timestamp, UniqueUntil},
};
use futures_util::StreamExt;
use tokio::task::JoinSet;

use super::StoreHarness;
use crate::{
    changed,
    suite::{
        fixture::{
            LEASE, QUEUE, failed, id, ids, prioritised, retained, secs, task, task_in, task_ref,
            unique,
        },
        groups::grouped,
    },
};

/// How long a signal or an end may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

fn import(envelope: Envelope, place: TaskPlace) -> Import {
    Import::new(Arc::new(envelope), place)
}

async fn import_all(store: &Arc<dyn Store>, tasks: Vec<Import>) -> Vec<Imported> {
    let sent = tasks.len();
    let imported = store.import(tasks).await.unwrap();
    assert_eq!(imported.len(), sent, "one result per task");
    imported
}

/// Imports tasks whose ids are free.
async fn bring(store: &Arc<dyn Store>, tasks: impl IntoIterator<Item = Import>) {
    for imported in import_all(store, tasks.into_iter().collect()).await {
        assert_eq!(imported, Imported::Done);
    }
}

async fn find(store: &Arc<dyn Store>, id: &str) -> Option<TaskInfo> {
    store.tasks(&[task_ref(id)]).await.unwrap().remove(0)
}

async fn info(store: &Arc<dyn Store>, id: &str) -> TaskInfo {
    find(store, id).await.expect("a task")
}

async fn lease(store: &Arc<dyn Store>, max: usize) -> Vec<Leased> {
    let request = LeaseRequest::new(vec![(QUEUE.into(), max)], max, LEASE, "tester".into());
    all_of(store.lease(&request).await).unwrap().concat()
}

async fn forward(store: &Arc<dyn Store>) -> usize {
    let forwarded = all_of(store.forward(&[QUEUE.into()], 100).await).unwrap();
    forwarded[0].moved
}

async fn enqueue(store: &Arc<dyn Store>, task: Envelope) -> bool {
    let task = vec![NewTask::new(task, When::Now)];
    store.enqueue(task).await.unwrap()[0].is_ok()
}

async fn stats(store: &Arc<dyn Store>) -> QueueStats {
    store.stats(&[QUEUE.into()]).await.unwrap().remove(0)
}

async fn hours(store: &Arc<dyn Store>) -> Vec<HourStats> {
    let all = store.history(&[QUEUE.into()], Timestamp::default()).await;
    all.unwrap().remove(0)
}

fn pending(since: Timestamp) -> TaskPlace {
    TaskPlace::Pending { since }
}

/// One place of each state that every store has.
fn places(now: Timestamp) -> [TaskPlace; 5] {
    let result = Some("done".into());
    [
        pending(now - secs(500)),
        TaskPlace::Scheduled {
            due: now + secs(100),
        },
        TaskPlace::Retry {
            due: now - secs(200),
        },
        TaskPlace::Completed {
            until: now + secs(300),
            result,
        },
        TaskPlace::Archived {
            at: now - secs(400),
        },
    ]
}

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

/// As if they had joined it here.
pub async fn members_of_a_group_are_due_by_its_limits(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    let member = |name, since| import(grouped(name, "x"), aggregating(since, None));
    bring(
        &store,
        [member("a", now - secs(20)), member("b", now - secs(9))],
    )
    .await;
    let found = info(&store, "a").await;
    assert_eq!(found.place(), Some(aggregating(now - secs(20), None)));
    let due = async || {
        let events = [Name::from("event")];
        let due = store.due_groups(&[QUEUE.into()], &events, 10).await;
        due.unwrap()
    };
    assert_eq!(due().await.next_due, Some(now + secs(1)));
    harness.advance(secs(1)).await;
    let group = due().await.groups.remove(0);
    let members: Vec<_> = group.members.iter().map(|task| task.id.as_str()).collect();
    assert_eq!((&*group.name, &members[..]), ("x", &["a", "b"][..]));
}

/// They are due after their delay, and new members do not join them.
pub async fn members_of_a_group_that_are_apart_stay_apart(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    for name in ["a", "b", "c"] {
        assert!(enqueue(&store, grouped(name, "x")).await);
    }
    harness.advance(secs(10)).await;
    let events = [Name::from("event")];
    let due = async || {
        let due = store.due_groups(&[QUEUE.into()], &events, 10).await;
        due.unwrap().groups
    };
    let mut group = due().await.remove(0);
    group.members.truncate(2);
    let apart = SetApart {
        members: group.members.clone(),
        group,
        tries: 2,
        delay: secs(60),
    };
    assert_eq!(store.set_apart(apart).await.unwrap(), 2);
    let part = Part {
        first: id("a"),
        tries: 2,
    };
    let mut moved = Vec::new();
    for name in ["a", "b"] {
        let found = info(&store, name).await;
        let apart = Some(Apart {
            part: part.clone(),
            delay: secs(60),
        });
        assert_eq!(found.apart, apart);
        let place = found.place().unwrap();
        moved.push(Import::new(found.envelope, place));
    }
    assert!(store.delete_queue(&QUEUE.into(), true).await.unwrap());
    bring(&store, moved.clone()).await;
    assert!(enqueue(&store, grouped("d", "x")).await);
    for moved in moved {
        let found = info(&store, moved.envelope.id.as_str()).await;
        assert_eq!(found.place(), Some(moved.place));
    }
    harness.advance(secs(61)).await;
    let mut groups = due().await;
    groups.sort_by_key(|group| group.members.len());
    let parts: Vec<_> = groups.iter().map(|group| group.part.clone()).collect();
    assert_eq!(parts, [None, Some(part)]);
    assert_eq!(groups[1].members.len(), 2);
}

fn aggregating(since: Timestamp, apart: Option<Apart>) -> TaskPlace {
    TaskPlace::Aggregating { since, apart }
}

/// Whatever its state is, and in the same call.
pub async fn a_task_with_a_taken_id_is_left_alone(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    for place in places(now) {
        let name = place.state().as_str().to_owned();
        bring(&store, [import(task(&name), place.clone())]).await;
        let before = info(&store, &name).await;
        let other = import(changed(task(&name), |task| task.attempts = 7), pending(now));
        assert_eq!(import_all(&store, vec![other]).await, [Imported::Exists]);
        assert_eq!(info(&store, &name).await, before);
    }
    let twice = import(task("twice"), pending(now));
    let elsewhere = import(task_in("other", "twice"), pending(now));
    let imported = import_all(&store, vec![twice.clone(), elsewhere, twice]).await;
    assert_eq!(imported, [Imported::Done, Imported::Done, Imported::Exists]);
}

/// A version that was read earlier, an active task and a completed one are refused.
pub async fn a_stored_task_is_replaced_only_if_it_is_as_it_was_read(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    let place = TaskPlace::Scheduled {
        due: now + secs(9_999),
    };
    bring(&store, [import(task("a"), place.clone())]).await;
    let seen = info(&store, "a").await;
    let envelope = Arc::new(changed(task("a"), |task| task.payload = "new".into()));
    let retry = TaskPlace::Retry {
        due: now + secs(60),
    };
    let replace = |seen: &TaskInfo, place: &TaskPlace| {
        vec![Import::new(Arc::clone(&envelope), place.clone()).replacing(seen.version)]
    };
    assert_eq!(
        import_all(&store, replace(&seen, &retry)).await,
        [Imported::Done]
    );
    let found = info(&store, "a").await;
    assert_eq!((found.place(), &found.envelope), (Some(retry), &envelope));
    let counts = stats(&store).await.counts;
    assert_eq!(counts, [(TaskState::Retry, 1)].into());
    let old = import_all(&store, replace(&seen, &pending(now))).await;
    assert_eq!(old, [Imported::Changed]);
    assert_eq!(
        import_all(&store, replace(&found, &pending(now))).await,
        [Imported::Done]
    );
    lease(&store, 1).await;
    let active = info(&store, "a").await;
    let refused = import_all(&store, replace(&active, &pending(now))).await;
    assert_eq!(refused, [Imported::Changed]);
    let missing = Import::new(Arc::new(task("b")), place).replacing(seen.version);
    assert_eq!(import_all(&store, vec![missing]).await, [Imported::Changed]);
    let [.., completed, _] = places(now);
    bring(&store, [import(task("c"), completed)]).await;
    let completed = info(&store, "c").await;
    let other = Import::new(Arc::clone(&completed.envelope), pending(now));
    let refused = import_all(&store, vec![other.replacing(completed.version)]).await;
    assert_eq!(refused, [Imported::Changed]);
    assert_eq!(find(&store, "b").await, None);
}

/// In the order given, as if each had been enqueued then.
pub async fn a_replaced_task_moves_behind_the_pending_ones(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    bring(
        &store,
        ["a", "b"].map(|name| import(task(name), pending(now))),
    )
    .await;
    let seen = info(&store, "a").await;
    let again = Import::new(Arc::clone(&seen.envelope), pending(now)).replacing(seen.version);
    assert_eq!(import_all(&store, vec![again]).await, [Imported::Done]);
    assert_eq!(ids(&lease(&store, 10).await), ["b", "a"]);
}

/// It is never refused because of a lock: it waits without it.
pub async fn a_task_takes_its_lock_if_it_is_free(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    let locked = |name| unique(name, UniqueUntil::Success, secs(100));
    bring(&store, [import(locked("a"), pending(now))]).await;
    assert!(!enqueue(&store, locked("refused")).await, "`a` has it");
    bring(&store, [import(locked("b"), pending(now))]).await;
    let leased = lease(&store, 1).await.remove(0);
    let drop = leased.settle(Outcome::Drop);
    all_of(store.settle(&[drop]).await).unwrap();
    assert!(enqueue(&store, locked("c")).await, "`b` never had it");
    harness.advance(secs(100)).await;
    bring(&store, [import(locked("d"), pending(now))]).await;
    assert!(!enqueue(&store, locked("refused")).await, "`d` has it now");
    let seen = info(&store, "d").await;
    let again = Import::new(Arc::clone(&seen.envelope), pending(now)).replacing(seen.version);
    assert_eq!(import_all(&store, vec![again]).await, [Imported::Done]);
    assert!(
        !enqueue(&store, locked("refused")).await,
        "`d` has it still"
    );
}

/// Its end has released every other, and its start a lock until then.
pub async fn a_task_does_not_take_a_lock_that_it_has_released(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    let [.., retry, completed, archived] = places(now);
    for (until, place) in [
        (UniqueUntil::Start, retry),
        (UniqueUntil::Success, completed),
        (UniqueUntil::Success, archived),
    ] {
        let name = place.state().as_str().to_owned();
        bring(&store, [import(unique(&name, until, secs(100)), place)]).await;
        let next = unique(&format!("after-{name}"), until, secs(100));
        assert!(enqueue(&store, next).await, "{name}");
        assert!(store.delete_queue(&QUEUE.into(), true).await.unwrap());
    }
}

/// It lasts as long as it would have where the task was enqueued.
pub async fn a_window_continues_with_its_task(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    let [.., completed, _] = places(now);
    let window = |name, at| {
        let task = unique(name, UniqueUntil::Window, secs(100));
        changed(task, |task| task.enqueued_at = at)
    };
    bring(&store, [import(window("a", now - secs(60)), completed)]).await;
    assert!(!enqueue(&store, window("b", now)).await);
    harness.advance(secs(40)).await;
    assert!(enqueue(&store, window("c", now)).await);
    let [.., archived] = places(now);
    assert!(store.delete_queue(&QUEUE.into(), true).await.unwrap());
    bring(&store, [import(window("d", now - secs(100)), archived)]).await;
    assert!(enqueue(&store, window("e", now)).await, "it has ended");
}

/// No worker of this store has run it.
pub async fn importing_counts_no_attempt(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let tasks = places(store.now());
    bring(
        &store,
        tasks.map(|place| import(task(place.state().as_str()), place)),
    )
    .await;
    let stats = stats(&store).await;
    assert_eq!((stats.succeeded, stats.failed, stats.total()), (0, 0, 5));
    assert_eq!(stats.archive, ArchiveStats::default());
    assert_eq!(hours(&store).await, []);
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

/// The waiters of the stored task receive its end, and its lock is free.
pub async fn a_stored_task_that_is_replaced_by_a_finished_one_ends(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    let locked = || unique("a", UniqueUntil::Success, secs(100));
    bring(&store, [import(locked(), pending(now))]).await;
    let waiting = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.finished(&task_ref("a")).await })
    };
    let seen = info(&store, "a").await;
    let result = Some("done".into());
    let until = now + secs(100);
    let end = TaskPlace::Completed { until, result };
    let end = import(locked(), end).replacing(seen.version);
    assert_eq!(import_all(&store, vec![end]).await, [Imported::Done]);
    let finished = tokio::time::timeout(PATIENCE, waiting).await;
    let finished = finished.expect("in time").unwrap().unwrap();
    let Finished::Completed { result, .. } = finished else {
        panic!("it completed: {finished:?}");
    };
    assert_eq!(result, Some("done".into()));
    assert!(enqueue(&store, unique("b", UniqueUntil::Success, secs(1))).await);
}

/// A move that is sent twice at the same time does not double a task.
pub async fn one_of_racing_imports_of_an_id_is_stored(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let mut imports = JoinSet::new();
    for _ in 0..8 {
        let (store, now) = (Arc::clone(&store), store.now());
        let import = import(task("a"), pending(now));
        imports.spawn(async move { import_all(&store, vec![import]).await });
    }
    let imported = imports.join_all().await.concat();
    let of = |wanted| imported.iter().filter(|one| **one == wanted).count();
    assert_eq!((of(Imported::Done), of(Imported::Exists)), (1, 7));
    assert_eq!(lease(&store, 10).await.len(), 1);
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

fn totals(hour: Timestamp) -> Totals {
    changed(Totals::default(), |totals| {
        totals.succeeded = 10;
        totals.failed = 4;
        totals.archive = changed(ArchiveStats::default(), |archive| {
            archive.max = Some(1_000);
            archive.trimmed_by_count = 3;
            archive.trimmed_by_age = 2;
            archive.last_trimmed = Some(hour);
        });
        totals.hours = vec![HourStats::new(hour, 10, 4)];
    })
}

/// However often they are sent. Others are added to them.
pub async fn statistics_are_added_once(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let hour = HourStats::MILLIS;
    let hour = Timestamp::from_millis(store.now().as_millis() / hour * hour);
    let (queue, totals) = (Name::from(QUEUE), totals(hour));
    let add = async |id: &str| {
        store
            .absorb(&queue, &id.into(), Some(&totals))
            .await
            .unwrap()
    };
    assert!(add("one").await);
    assert!(!add("one").await);
    assert_eq!(store.queues().await.unwrap(), [QUEUE]);
    let once = stats(&store).await;
    assert_eq!((once.succeeded, once.failed), (10, 4));
    assert_eq!(once.archive, totals.archive);
    assert_eq!(hours(&store).await, totals.hours);
    assert!(add("two").await);
    assert!(!add("one").await);
    let twice = stats(&store).await;
    assert_eq!((twice.succeeded, twice.failed), (20, 8));
    assert_eq!(twice.archive.trimmed(), 10);
    assert_eq!(hours(&store).await, [HourStats::new(hour, 20, 8)]);
}

/// An id is also remembered with statistics that add nothing.
pub async fn asking_for_an_id_does_not_remember_it(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let queue = Name::from(QUEUE);
    let ask = async || store.absorb(&queue, &"one".into(), None).await.unwrap();
    assert!(ask().await);
    assert!(ask().await);
    assert_eq!(store.queues().await.unwrap(), [] as [Name; 0]);
    let nothing = Totals::default();
    let noted = store.absorb(&queue, &"one".into(), Some(&nothing)).await;
    assert!(noted.unwrap());
    assert!(!ask().await);
    assert!(store.absorb(&queue, &"two".into(), None).await.unwrap());
    assert!(store.delete_queue(&queue, false).await.unwrap());
    assert!(ask().await);
}

/// The limit that the servers of this store use stays, and so does the later time.
pub async fn statistics_do_not_replace_those_of_the_store(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let (queue, now) = (Name::from(QUEUE), store.now());
    let late = changed(totals(now), |totals| totals.archive.max = Some(7));
    let early = changed(totals(now - secs(60)), |totals| totals.hours.clear());
    for (id, totals) in [("late", &late), ("early", &early)] {
        assert!(
            store
                .absorb(&queue, &id.into(), Some(totals))
                .await
                .unwrap()
        );
    }
    let archive = stats(&store).await.archive;
    assert_eq!((archive.max, archive.last_trimmed), (Some(7), Some(now)));
    let none = Totals::default();
    assert!(
        store
            .absorb(&queue, &"none".into(), Some(&none))
            .await
            .unwrap()
    );
    assert_eq!(stats(&store).await.archive, archive);
}

/// A queue of the same name starts anew.
pub async fn statistics_are_forgotten_with_their_queue(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let (queue, totals) = (Name::from(QUEUE), totals(store.now()));
    let add = async || {
        store
            .absorb(&queue, &"one".into(), Some(&totals))
            .await
            .unwrap()
    };
    assert!(add().await);
    assert!(store.delete_queue(&queue, false).await.unwrap());
    assert_eq!(stats(&store).await.succeeded, 0);
    assert!(add().await);
    assert_eq!(stats(&store).await.succeeded, 10);
}
