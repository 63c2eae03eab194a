//! The tests of several processes.

#![allow(missing_docs, reason = "the name of a test says what it requires")]

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{CancelOutcome, Control, Finished, Signal, Store},
    process::Progress,
    task::TaskState,
};
use futures_util::StreamExt;
use tokio::task::JoinHandle;

use super::{ProcessHarness, ROLE};
use crate::{
    calls::{self, LIMIT, enqueue, eventually, task_ref},
    child::Child,
};

pub async fn an_idle_process_hears_of_tasks_of_another_one(harness: &impl ProcessHarness) {
    let store = harness.store().await;
    let mut signals = Store::signals(&store, &["q".into()]).await.unwrap();
    let mut other = Child::start(ROLE, harness.address());
    for task in ["one", "two"] {
        assert_eq!(other.call(&format!("enqueue {task}")), "Ok(())");
        let signal = tokio::time::timeout(LIMIT, signals.next()).await;
        assert_eq!(
            signal.expect("it is woken"),
            Some(Signal::Pending("q".into()))
        );
        assert_eq!(calls::drain(&store).await, [task]);
    }
    // And the other way round.
    assert_eq!(other.call("listen"), "listening");
    enqueue(&store, "three").await.unwrap();
    assert!(other.call("hear").starts_with("Pending"));
    assert_eq!(other.call("lease"), "three");
    other.end();
}

pub async fn cancellation_reaches_the_process_that_runs_the_task(harness: &impl ProcessHarness) {
    let store = harness.store().await;
    enqueue(&store, "task").await.unwrap();
    let mut worker = Child::start(ROLE, harness.address());
    assert_eq!(worker.call("lease"), "task");
    assert_eq!(worker.call("listen"), "listening");
    assert_eq!(worker.call("extend"), "Yes");
    let cancelled = Control::cancel(&store, &[task_ref("task")], "no longer needed").await;
    assert_eq!(cancelled.unwrap(), [CancelOutcome::Requested]);
    assert!(worker.call("hear").starts_with("Cancel"));
    assert_eq!(worker.call("extend"), "CancelRequested");
    worker.end();
}

pub async fn a_result_of_another_process_arrives_with_and_without_retention(
    harness: &impl ProcessHarness,
) {
    let store = harness.store().await;
    let mut worker = Child::start(ROLE, harness.address());
    for (retention, result) in [(0, "done"), (0, ""), (60, "done"), (60, "")] {
        let mut task = calls::task_of("task");
        let options = Arc::make_mut(&mut task.envelope.options);
        options.retention = Duration::from_secs(retention);
        let added = Store::enqueue(&store, vec![task]).await.unwrap();
        added[0].as_ref().expect("a task");
        assert_eq!(worker.call("lease"), "task");
        let waiter = wait_visibly(harness, &store, "task").await;
        assert_eq!(worker.call(&format!("complete {result}")), "Recorded");
        let finished = waiter.await.unwrap();
        let Finished::Completed { result: found, .. } = finished else {
            panic!("retention {retention}, result {result:?}: {finished:?}");
        };
        assert_eq!(found.unwrap_or_default(), result.as_bytes());
        let deleted = Store::delete_queue(&store, &"q".into(), true).await;
        assert!(deleted.unwrap());
    }
    worker.end();
}

/// Waits for a task's end. Returns once its worker knows of it.
async fn wait_visibly<H: ProcessHarness>(
    harness: &H,
    store: &H::Store,
    task: &str,
) -> JoinHandle<Finished> {
    let (waiting, task) = (store.clone(), task_ref(task));
    let waiter = tokio::spawn(async move { Store::finished(&waiting, &task).await.unwrap() });
    eventually("the waiter is seen", async || harness.waiters().await == 1).await;
    waiter
}

pub async fn the_end_of_an_archived_task_or_a_deleted_queue_reaches_a_waiter(
    harness: &impl ProcessHarness,
) {
    let store = harness.store().await;
    let mut worker = Child::start(ROLE, harness.address());
    enqueue(&store, "task").await.unwrap();
    assert_eq!(worker.call("lease"), "task");
    let waiter = wait_visibly(harness, &store, "task").await;
    assert_eq!(worker.call("archive"), "Recorded");
    let end = waiter.await.unwrap();
    assert!(matches!(end, Finished::Archived { .. }), "{end:?}");

    enqueue(&store, "other").await.unwrap();
    let waiter = wait_visibly(harness, &store, "other").await;
    assert_eq!(worker.call("delete q"), "Ok(true)");
    let end = waiter.await.unwrap();
    assert!(matches!(end, Finished::Gone), "{end:?}");
    worker.end();
}

pub async fn the_result_of_a_former_task_with_the_same_id_reaches_no_waiter(
    harness: &impl ProcessHarness,
) {
    let store = harness.store().await;
    let mut worker = Child::start(ROLE, harness.address());
    for outcome in ["complete done", "drop"] {
        enqueue(&store, "task").await.unwrap();
        assert_eq!(worker.call("lease"), "task");
        let waiter = wait_visibly(harness, &store, "task").await;
        assert_eq!(worker.call(outcome), "Recorded");
        let end = waiter.await.unwrap();
        let is_gone = matches!(end, Finished::Gone);
        assert_eq!(is_gone, outcome == "drop", "{end:?}");
    }
    worker.end();
}

pub async fn progress_is_visible_in_other_processes(harness: &impl ProcessHarness) {
    let store = harness.store().await;
    enqueue(&store, "task").await.unwrap();
    let mut worker = Child::start(ROLE, harness.address());
    assert_eq!(worker.call("lease"), "task");
    assert_eq!(worker.call("report"), "Ok(())");
    let tasks = Store::tasks(&store, &[task_ref("task")]).await;
    let task = tasks.unwrap().remove(0).expect("a task");
    assert_eq!(task.state, TaskState::Active);
    assert_eq!(task.progress, Some(Progress::new(3, 7, "sending")));
    worker.end();
}
