//! Changes that cannot be recorded, or end early.

use std::sync::atomic::Ordering::SeqCst;

use asynqueue_core::{
    inspector::{Action, AuditQuery, Inspector},
    memory::MemoryBroker,
    producer::Producer,
    task::{TaskRef, TaskState},
};
use futures_util::StreamExt;

use crate::{
    faulty::Faulty,
    harness::{job, lines, with},
};

fn stage() -> (MemoryBroker, Faulty, Inspector) {
    let broker = MemoryBroker::new();
    let faulty = Faulty::new(&broker);
    let inspector = Inspector::new(faulty.clone()).acting_as("ada");
    (broker, faulty, inspector)
}

async fn enqueued(broker: &MemoryBroker, n: u64) -> Vec<TaskRef> {
    let producer = Producer::new(broker.clone());
    let tasks = producer.enqueue_many((0..n).map(job)).await.into_iter();
    tasks.map(|task| task.unwrap().task_ref().clone()).collect()
}

#[tokio::test]
async fn a_change_that_cannot_be_recorded_stands_and_is_logged_completely() {
    let (broker, faulty, inspector) = stage();
    let (lines, _guard) = lines();
    faulty.faults.points_fail.store(true, SeqCst);
    let tasks = enqueued(&broker, 1).await;
    let archive = Action::Archive("unwanted".into());
    inspector.apply(&archive, &tasks).await.unwrap();
    let task = inspector.task(&tasks[0]).await.unwrap().unwrap();
    assert_eq!(task.state, TaskState::Archived);
    let logged = with(&lines, "could not be recorded");
    assert_eq!(logged.len(), 1, "{logged:?}");
    for part in [
        "ERROR asynqueue::audit",
        "by=ada",
        "unwanted",
        tasks[0].id.as_str(),
    ] {
        assert!(logged[0].contains(part), "{part}: {}", logged[0]);
    }
    let delete = inspector.apply_to_all(
        Action::Delete,
        "default",
        TaskState::Archived,
        "".parse().unwrap(),
    );
    assert_eq!(delete.count().await, 1);
    // When it starts, and with its numbers.
    let logged = with(&lines, "deleted");
    assert!(logged.last().unwrap().contains("deleted 1 archived task"));
}

#[tokio::test]
async fn a_store_that_keeps_no_entries_has_one_log_line_for_each_change() {
    let (broker, faulty, inspector) = stage();
    let (lines, _guard) = lines();
    faulty.faults.pointless.store(true, SeqCst);
    inspector.pause(&["mail".into()]).await.unwrap();
    let logged = with(&lines, "asynqueue::audit");
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert!(logged[0].contains("paused queue mail") && logged[0].contains("by=ada"));
    let query = AuditQuery::default();
    assert_eq!(inspector.audit(&query).await.unwrap().entries, []);
    let kept = Inspector::new(broker).audit(&query).await.unwrap();
    assert_eq!(kept.entries, []);
}

#[tokio::test]
async fn a_recorded_change_is_not_logged_by_the_inspector() {
    let (_, _, inspector) = stage();
    let (lines, _guard) = lines();
    inspector.pause(&["mail".into()]).await.unwrap();
    assert_eq!(with(&lines, "asynqueue::audit"), [""; 0]);
}

#[tokio::test]
async fn an_action_that_fails_halfway_is_recorded_with_what_it_did() {
    let (broker, faulty, inspector) = stage();
    let tasks = enqueued(&broker, 450).await;
    faulty.faults.changes_left.store(200, SeqCst);
    let archived = inspector
        .apply(&Action::Archive("all".into()), &tasks)
        .await;
    archived.unwrap_err();
    faulty.faults.changes_left.store(usize::MAX, SeqCst);
    let query = AuditQuery::default();
    let entries = inspector.audit(&query).await.unwrap().entries;
    assert_eq!((entries.len(), entries[0].done), (1, 200));
    let error = entries[0].error.as_deref().unwrap();
    assert!(error.contains("read only"), "{error}");
}
