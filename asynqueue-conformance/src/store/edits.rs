//! Changes of tasks that were looked up.

use std::sync::Arc;

use asynqueue_core::{
    broker::{
        Change, Edit, Edited, Extended, LeaseRequest, Leased, Move, NewTask, Outcome, Page,
        Settlement, Space, Store, TaskInfo, When, all_of,
    },
    process::Progress,
    task::{Envelope, Name, TaskRef, TaskState, UniqueKey, UniqueLock, UniqueUntil},
};
use tokio::task::JoinSet;

use super::StoreHarness;
use crate::suite::fixture::{
    LEASE, QUEUE, complete, failed, id, retained, secs, task, task_in, task_ref, unique,
};

async fn enqueue(store: &Arc<dyn Store>, tasks: impl IntoIterator<Item = Envelope>) {
    let tasks = tasks.into_iter();
    let tasks = tasks.map(|task| NewTask::new(task, When::Now)).collect();
    for answer in store.enqueue(tasks).await.unwrap() {
        answer.unwrap();
    }
}

async fn lease_one(store: &Arc<dyn Store>) -> Leased {
    let request = LeaseRequest::new(vec![(QUEUE.into(), 1)], 1, LEASE, "tester".into());
    let leased = all_of(store.lease(&request).await).unwrap();
    leased.concat().remove(0)
}

async fn settle(store: &Arc<dyn Store>, settlement: Settlement) {
    all_of(store.settle(&[settlement]).await).unwrap();
}

async fn find(store: &Arc<dyn Store>, id: &str) -> Option<TaskInfo> {
    store.tasks(&[task_ref(id)]).await.unwrap().remove(0)
}

async fn info(store: &Arc<dyn Store>, id: &str) -> TaskInfo {
    find(store, id).await.expect("a task")
}

async fn state(store: &Arc<dyn Store>, id: &str) -> Option<TaskState> {
    find(store, id).await.map(|task| task.state)
}

fn edited(seen: &TaskInfo, payload: &str) -> Arc<Envelope> {
    let mut envelope = Envelope::clone(&seen.envelope);
    envelope.payload = payload.to_owned().into();
    Arc::new(envelope)
}

fn put(seen: &TaskInfo, payload: &str) -> Edit {
    let envelope = edited(seen, payload);
    moved(seen, envelope, None)
}

fn moved(seen: &TaskInfo, envelope: Arc<Envelope>, to: Option<Move>) -> Edit {
    Edit {
        seen: seen.clone(),
        change: Change::Put { envelope, to },
    }
}

fn edit(seen: &TaskInfo, change: Change) -> Edit {
    Edit {
        seen: seen.clone(),
        change,
    }
}

fn cancel() -> Change {
    Change::Cancel {
        reason: "changed my mind".into(),
    }
}

async fn edit_one(store: &Arc<dyn Store>, edit: Edit) -> Edited {
    let edited = store.edit(&[edit]).await.unwrap();
    assert_eq!(edited.len(), 1, "one result per edit");
    edited[0]
}

/// The end of a lease and the progress are not part of it.
pub async fn a_version_depends_on_the_state_and_the_envelope(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    enqueue(&store, [task("a"), task("b")]).await;
    let queue = Name::from(QUEUE);
    let pending = info(&store, "a").await.version;
    assert_eq!(info(&store, "a").await.version, pending);
    let page = store
        .list(&queue, TaskState::Pending, Page::default())
        .await
        .unwrap();
    assert_eq!(page.tasks[0].version, pending);
    let leased = lease_one(&store).await;
    let active = info(&store, "a").await.version;
    assert_ne!(active, pending);
    let progress = Progress::new(1, 2, "half");
    store
        .report(vec![(leased.lease(), progress)])
        .await
        .unwrap();
    all_of(store.extend(&[leased.lease()], LEASE * 2).await).unwrap();
    assert_eq!(info(&store, "a").await.version, active);
    let before = info(&store, "b").await;
    assert_eq!(edit_one(&store, put(&before, "edited")).await, Edited::Done);
    assert_ne!(info(&store, "b").await.version, before.version);
}

/// Any change of its state or its envelope counts.
pub async fn a_task_is_edited_only_if_it_is_unchanged(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    enqueue(&store, [task("a"), task("b")]).await;
    let (a, b) = (info(&store, "a").await, info(&store, "b").await);
    let leased = lease_one(&store).await;
    assert_eq!(edit_one(&store, put(&b, "edited")).await, Edited::Done);
    let old = [
        put(&a, "late"),
        edit(&a, Change::Delete),
        put(&b, "late"),
        edit(&b, Change::Delete),
    ];
    let answers = store.edit(&old).await.unwrap();
    assert_eq!(answers, [Edited::Changed; 4]);
    assert_eq!(info(&store, "b").await.envelope.payload, "edited");
    let seen = info(&store, "a").await;
    let retry = Settlement {
        envelope: failed(&leased.envelope),
        ..leased.settle(Outcome::Retry { delay: secs(0) })
    };
    settle(&store, retry).await;
    assert_eq!(
        edit_one(&store, edit(&seen, cancel())).await,
        Edited::Changed
    );
    assert_eq!(edit_one(&store, put(&a, "late")).await, Edited::Changed);
    let seen = info(&store, "a").await;
    assert_eq!(edit_one(&store, put(&seen, "edited")).await, Edited::Done);
}

/// Also if a task occurs twice, and over several queues.
pub async fn edits_return_results_as_if_made_in_order(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let elsewhere = task_in("other", "c");
    enqueue(&store, [task("a"), task("b"), elsewhere]).await;
    let (a, b) = (info(&store, "a").await, info(&store, "b").await);
    let c = store
        .tasks(&[TaskRef::new("other", id("c"))])
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    let edits = [
        put(&a, "first"),
        put(&c, "first"),
        put(&a, "second"),
        edit(&b, Change::Delete),
        edit(&c, Change::Delete),
        edit(&b, Change::Delete),
    ];
    use Edited::{Changed, Done};
    let answers = store.edit(&edits).await.unwrap();
    assert_eq!(answers, [Done, Done, Changed, Done, Changed, Changed]);
    assert_eq!(info(&store, "a").await.envelope.payload, "first");
    assert_eq!(state(&store, "b").await, None);
}

/// Nothing is changed.
pub async fn a_change_is_refused_in_the_wrong_state(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    enqueue(
        &store,
        [
            retained("completed", secs(1_000)),
            task("active"),
            task("pending"),
        ],
    )
    .await;
    let leased = lease_one(&store).await;
    settle(&store, leased.settle(complete())).await;
    let leased = lease_one(&store).await;
    let [completed, active, pending] = ["completed", "active", "pending"];
    let (completed, active) = (info(&store, completed).await, info(&store, active).await);
    let pending = info(&store, pending).await;
    let refused = [
        put(&completed, "edited"),
        edit(&completed, cancel()),
        put(&active, "edited"),
        moved(&active, Arc::clone(&active.envelope), Some(Move::Pending)),
        edit(&active, Change::Delete),
        edit(&pending, cancel()),
    ];
    let answers = store.edit(&refused).await.unwrap();
    assert_eq!(answers, [Edited::Refused; 6]);
    for seen in [&completed, &active, &pending] {
        let now = info(&store, seen.envelope.id.as_str()).await;
        assert_eq!((now.state, now.version), (seen.state, seen.version));
    }
    assert_eq!(
        edit_one(&store, edit(&active, cancel())).await,
        Edited::Done
    );
    let extended = all_of(store.extend(&[leased.lease()], LEASE).await).unwrap();
    assert_eq!(extended, [Extended::CancelRequested]);
    assert_eq!(
        edit_one(&store, edit(&completed, Change::Delete)).await,
        Edited::Done
    );
}

/// Whether it was deleted or never existed.
pub async fn a_missing_task_counts_as_changed(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    enqueue(&store, [task("a")]).await;
    let seen = info(&store, "a").await;
    assert_eq!(
        edit_one(&store, edit(&seen, Change::Delete)).await,
        Edited::Done
    );
    for change in [Change::Delete, cancel(), put(&seen, "late").change] {
        assert_eq!(edit_one(&store, edit(&seen, change)).await, Edited::Changed);
    }
    let mut never = seen;
    never.envelope = Arc::new(task_in("never", "a"));
    assert_eq!(
        edit_one(&store, edit(&never, Change::Delete)).await,
        Edited::Changed
    );
    assert_eq!(store.queues().await.unwrap(), [QUEUE]);
}

/// The task released the lock when it was archived.
pub async fn a_task_leaves_the_archive_only_if_its_lock_is_free(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let locked = |name| unique(name, UniqueUntil::Success, secs(1_000));
    enqueue(&store, [locked("a")]).await;
    let to = |seen: &TaskInfo, to| moved(seen, Arc::clone(&seen.envelope), Some(to));
    let archive = to(&info(&store, "a").await, Move::Archived);
    assert_eq!(edit_one(&store, archive).await, Edited::Done);
    enqueue(&store, [locked("b")]).await;
    let archived = info(&store, "a").await;
    assert_eq!(
        edit_one(&store, to(&archived, Move::Pending)).await,
        Edited::Locked
    );
    assert_eq!(
        edit_one(&store, put(&archived, "edited")).await,
        Edited::Done
    );
    let holder = info(&store, "b").await;
    assert_eq!(
        edit_one(&store, edit(&holder, Change::Delete)).await,
        Edited::Done
    );
    let archived = info(&store, "a").await;
    assert_eq!(
        edit_one(&store, to(&archived, Move::Pending)).await,
        Edited::Done
    );
    let refused = store
        .enqueue(vec![NewTask::new(locked("c"), When::Now)])
        .await;
    assert!(refused.unwrap()[0].is_err(), "it holds its lock again");
}

/// Nothing else of it changes.
pub async fn a_put_without_a_change_moves_the_task(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    enqueue(&store, [task("a"), task("b")]).await;
    let at = store.now() + secs(3_600);
    for (to, state) in [
        (Move::Scheduled(at), TaskState::Scheduled),
        (Move::Archived, TaskState::Archived),
        (Move::Pending, TaskState::Pending),
    ] {
        let seen = info(&store, "a").await;
        let edit = moved(&seen, Arc::clone(&seen.envelope), Some(to));
        assert_eq!(edit_one(&store, edit).await, Edited::Done);
        let now = info(&store, "a").await;
        assert_eq!((now.state, &now.envelope), (state, &seen.envelope));
        assert_ne!(now.version, seen.version);
    }
    assert_eq!(
        lease_one(&store).await.envelope.id,
        id("b"),
        "it moved to the end"
    );
}

/// It takes that lock when it leaves the archive.
pub async fn a_task_releases_the_lock_that_its_new_envelope_names(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let other = |name: &str, until| {
        let mut task = unique(name, until, secs(1_000));
        let lock = UniqueLock::new(UniqueKey::new("other"), until, secs(1_000));
        task.unique = Some(Box::new(lock));
        task
    };
    for until in [UniqueUntil::Start, UniqueUntil::Success] {
        let name = |name| format!("{name}-{until:?}");
        enqueue(&store, [unique(&name("a"), until, secs(1_000))]).await;
        settle(&store, lease_one(&store).await.settle(Outcome::Archive)).await;
        let seen = info(&store, &name("a")).await;
        let new = Arc::new(other(&name("a"), until));
        let edit = moved(&seen, new, Some(Move::Pending));
        assert_eq!(edit_one(&store, edit).await, Edited::Done);
        let next = NewTask::new(other(&name("b"), until), When::Now);
        let refused = store.enqueue(vec![next.clone()]).await.unwrap();
        assert!(refused[0].is_err(), "its lock is held");
        let leased = lease_one(&store).await;
        if until == UniqueUntil::Success {
            settle(&store, leased.settle(complete())).await;
        }
        let accepted = store.enqueue(vec![next]).await.unwrap();
        assert_eq!(accepted, [Ok(())], "{until:?}");
        settle(&store, lease_one(&store).await.settle(complete())).await;
    }
}

/// The others have seen an old version.
pub async fn one_of_racing_edits_of_a_task_is_made(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    enqueue(&store, [task("a")]).await;
    let seen = info(&store, "a").await;
    let mut edits = JoinSet::new();
    for n in 0..8 {
        let (store, edit) = (Arc::clone(&store), put(&seen, &n.to_string()));
        edits.spawn(async move { edit_one(&store, edit).await });
    }
    let answers = edits.join_all().await;
    let of = |wanted| answers.iter().filter(|answer| **answer == wanted).count();
    assert_eq!((of(Edited::Done), of(Edited::Changed)), (1, 7));
}

/// A batch may be empty without an error.
pub async fn an_empty_edit_has_an_empty_result(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    assert_eq!(store.edit(&[]).await.unwrap(), []);
    assert_eq!(store.tasks(&[]).await.unwrap(), []);
    let documents = store.document(Space::Marks, &[]).await;
    assert_eq!(documents.unwrap(), []);
    store.forget_ticks(&[]).await.unwrap();
}
