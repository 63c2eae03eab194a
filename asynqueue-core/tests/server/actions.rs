//! The actions of an inspector on a task in each state.

use std::time::Duration;

use asynqueue_core::{
    broker::{Inspect, Page, TaskInfo},
    inspector::{Action, ActionKind, ActionOutcome, ActionTarget, Filter, Inspector},
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::Server,
    task::{Aggregate, TaskRef, TaskState},
    testing::TestClock,
};
use asynqueue_macros::Task;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::harness::{AN_HOUR, until};

/// The outcome of a task, by the state that it should reach.
#[derive(Serialize, Deserialize, Task)]
#[task(event = "fate", retention = "1h", queue = "fates", crate = asynqueue_core)]
struct Fate {
    state: TaskState,
}

async fn handle(fate: Payload<Fate>, _: Context) -> Result<(), TaskError> {
    match fate.state {
        TaskState::Retry => Err(TaskError::retry_after(AN_HOUR, "busy")),
        TaskState::Archived => Err(TaskError::skip_retry("refused")),
        TaskState::Active => std::future::pending().await,
        _ => Ok(()),
    }
}

const LIMITS: Aggregate = Aggregate::DEFAULT.grace(AN_HOUR).max_delay(AN_HOUR);

/// A broker with one task, which is in this state and stays in it.
async fn with_task_in(state: TaskState) -> (Inspector, TaskRef) {
    let broker = MemoryBroker::new();
    let enqueue = Producer::new(broker.clone());
    let enqueue = enqueue.enqueue(Fate { state }).id("a");
    let enqueue = match state {
        TaskState::Scheduled => enqueue.delay(AN_HOUR),
        TaskState::Aggregating => enqueue.group("group").aggregate(LIMITS),
        _ => enqueue,
    };
    let task = enqueue.await.unwrap().task_ref().clone();
    let inspector = Inspector::new(broker.clone());
    if matches!(
        state,
        TaskState::Active | TaskState::Retry | TaskState::Completed | TaskState::Archived
    ) {
        let server = Server::builder(broker).process(handle);
        let server = server.shutdown_timeout(Duration::ZERO);
        let server = server.start().await.unwrap();
        let is = async || inspector.task(&task).await.unwrap().unwrap().state == state;
        until("it has reached its state", is).await;
        if state == TaskState::Active {
            // It ends with the runtime of the test: stopping it earlier would end the attempt.
            std::mem::forget(server);
        } else {
            server.shutdown().await.unwrap();
        }
    }
    (inspector, task)
}

/// The task as observers see it. Without its lease, which the server extends at any time.
async fn seen(inspector: &Inspector, task: &TaskRef) -> Option<TaskInfo> {
    let mut seen = inspector.task(task).await.unwrap()?;
    seen.lease = None;
    Some(seen)
}

fn action(kind: ActionKind) -> Option<Action> {
    Some(match kind {
        ActionKind::Retry => Action::Retry,
        ActionKind::Run => Action::RunNow,
        ActionKind::Archive => Action::Archive("not today".into()),
        ActionKind::Cancel => Action::Cancel("enough".into()),
        ActionKind::Edit => Action::EditPayload(json!({ "state": "blocked" })),
        ActionKind::Move => Action::MoveTo("other".into()),
        ActionKind::Delete => Action::Delete,
        _ => return None,
    })
}

#[tokio::test]
async fn an_action_changes_a_task_in_the_states_that_it_applies_to_and_in_no_other() {
    for state in TaskState::ALL {
        for kind in ActionKind::ALL {
            let Some(action) = action(*kind) else {
                assert!(!kind.applies_to_tasks(), "{kind} has no action");
                continue;
            };
            assert_eq!(action.kind(), *kind);
            let (inspector, task) = with_task_in(state).await;
            let before = seen(&inspector, &task).await;
            let tasks = std::slice::from_ref(&task);
            let outcomes = inspector.apply(&action, tasks).await.unwrap();
            let is_done = outcomes == [ActionOutcome::Done];
            let after = seen(&inspector, &task).await;
            // The stop request of an active task is visible only to its worker.
            let is_asked = state == TaskState::Active && *kind == ActionKind::Cancel;
            let applies = kind.applies_to(ActionTarget::Task(state));
            assert_eq!(
                is_done && (after != before || is_asked),
                applies,
                "{kind} of a task that is {state}: {outcomes:?}"
            );
            assert!(
                applies || after == before,
                "{kind} of a task that is {state}"
            );
        }
    }
}

/// A loop that never ends would hold the connection of its broker until someone stops it.
#[tokio::test]
async fn a_bulk_action_ends_in_each_state() {
    for state in TaskState::ALL {
        for action in ActionKind::ALL.iter().copied().filter_map(action) {
            let (inspector, task) = with_task_in(state).await;
            let what = format!("{} of tasks that are {state}", action.kind());
            let bulk = inspector.apply_to_all(action, task.queue, state, Filter::default());
            let chunks = bulk.take(10).count().await;
            // One pass, and a second one of a list whose places are numbers.
            assert!(chunks <= 2, "{what}: {chunks} chunks");
        }
    }
}

/// Tasks may arrive as fast as a bulk action changes others, and those that it runs may fail and return to the list.
#[tokio::test]
async fn a_bulk_action_ends_although_tasks_arrive() {
    const CHUNK: usize = 200;
    for (state, delay) in [
        (TaskState::Pending, Duration::ZERO),
        (TaskState::Scheduled, AN_HOUR),
    ] {
        let clock = TestClock::default();
        let broker = MemoryBroker::with_clock(clock.clone());
        let producer = Producer::new(broker.clone());
        let arrive = async |name: &str, after: Duration| {
            for n in 0..CHUNK {
                let enqueue = producer.enqueue(Fate { state }).id(format!("{name}-{n}"));
                enqueue.delay(delay + after).await.unwrap();
            }
        };
        for n in 0..3 {
            arrive(&format!("old-{n}"), Duration::ZERO).await;
        }
        let inspector = Inspector::new(broker.clone());
        let reason = Action::Archive("not today".into());
        let bulk = inspector.apply_to_all(reason, "fates", state, Filter::default());
        let mut bulk = bulk.take(10).enumerate();
        let mut done = 0;
        while let Some((chunk, progress)) = bulk.next().await {
            done = progress.unwrap().done;
            clock.advance(Duration::from_secs(2));
            let later = if delay.is_zero() { 0 } else { chunk as u64 + 1 };
            arrive(&format!("new-{chunk}"), Duration::from_secs(later)).await;
        }
        assert_eq!(done, 3 * CHUNK as u64, "{state}");
        let page = Page::first(3 * CHUNK);
        let left = broker.list(&"fates".into(), state, page).await.unwrap();
        let is_old = |task: &TaskInfo| task.envelope.id.as_str().starts_with("old-");
        assert!(!left.tasks.iter().any(is_old), "{state}");
    }
}

/// Handlers send it to systems that refuse to do the same work twice.
#[tokio::test]
async fn a_copy_keeps_the_idempotency_key_of_its_original() {
    let broker = MemoryBroker::new();
    let (keys, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let handle = move |_: Payload<Fate>, ctx: Context| {
        let key = (ctx.id().to_string(), ctx.idempotency_key().to_string());
        let sent = keys.send(key);
        async move { sent.map_err(TaskError::skip_retry) }
    };
    let server = Server::builder(broker.clone()).process(handle);
    let server = server.start().await.unwrap();
    let task = Producer::new(broker.clone());
    let state = TaskState::Completed;
    let task = task.enqueue(Fate { state }).id("charge").await.unwrap();
    let own = || "charge".to_owned();
    assert_eq!(seen.recv().await, Some((own(), own())));
    let inspector = Inspector::new(broker);
    let again = inspector.enqueue_again(task.task_ref(), None).await;
    let again = again.unwrap();
    assert_ne!(again.id.as_str(), "charge");
    assert_eq!(seen.recv().await, Some((again.id.to_string(), own())));
    server.shutdown().await.unwrap();
}
