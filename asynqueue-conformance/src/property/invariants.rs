//! Invariants of a broker, which hold after any operations.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use asynqueue_core::{
    broker::{Page, QueueStats, SharedBroker, TaskInfo},
    task::{Name, TaskId, TaskRef, TaskState},
};

use super::{
    difference::{Difference, Fault, ensure, same},
    lists::complete_list,
};

/// Checks that every task of every queue is in exactly one state, that lists, counts and single lookups agree, and that
/// pages of any size make up the same list. Nothing else may use the broker during the call.
///
/// # Errors
///
/// When an invariant is violated.
pub async fn check_invariants(broker: &SharedBroker) -> Result<(), Difference> {
    invariants(broker)
        .await
        .map_err(|fault| Difference::after(&[], &fault))
}

pub(super) async fn invariants(broker: &SharedBroker) -> Result<(), Fault> {
    let queues = broker.queues().await?;
    ensure(queues.is_sorted_by(|a, b| a < b), || {
        format!("the queues are not sorted by name without duplicates: {queues:?}")
    })?;
    let stats = broker.stats(&queues).await?;
    same("the number of stats", &stats.len(), &queues.len())?;
    for (queue, stats) in queues.iter().zip(&stats) {
        invariants_of(broker, queue, stats).await?;
    }
    Ok(())
}

async fn invariants_of(
    broker: &SharedBroker,
    queue: &Name,
    stats: &QueueStats,
) -> Result<(), Fault> {
    let mut counts = BTreeMap::new();
    let mut listed_in = HashMap::<TaskId, TaskState>::new();
    for state in TaskState::ALL {
        let list = complete_list(broker, queue, state, Page::first(usize::from(u16::MAX))).await?;
        for task in &list {
            plausible(queue, state, task)?;
            if let Some(other) = listed_in.insert(task.envelope.id.clone(), state) {
                let id = &task.envelope.id;
                return Err(Fault(format!(
                    "{queue}/{id} is in two states: {other} and {state}"
                )));
            }
        }
        if list.is_empty() {
            continue;
        }
        in_order(queue, state, &list)?;
        looked_up_alone(broker, queue, &list).await?;
        for limit in BTreeSet::from([1, 2, 3, list.len()]) {
            let pages = complete_list(broker, queue, state, Page::first(limit)).await?;
            let what = format!("{queue}: {state} tasks in pages of {limit}");
            same(what, &pages, &list)?;
            let mut pages = complete_list(broker, queue, state, Page::last(limit)).await?;
            pages.reverse();
            let what = format!("{queue}: {state} tasks from the end, in pages of {limit}");
            same(what, &pages, &list)?;
        }
        counts.insert(state, list.len() as u64);
    }
    same(format_args!("{queue}: counts"), &stats.counts, &counts)
}

/// Checks that a task matches its list, and has only the data of its state.
fn plausible(queue: &Name, state: TaskState, task: &TaskInfo) -> Result<(), Fault> {
    let has_time = !matches!(
        state,
        TaskState::Pending | TaskState::Active | TaskState::Aggregating
    );
    let has_since = matches!(state, TaskState::Pending | TaskState::Aggregating);
    let holds = task.envelope.queue == *queue
        && task.state == state
        && task.at.is_some() == has_time
        && task.since.is_some() == has_since
        && task.lease.is_some() == (state == TaskState::Active)
        && (task.progress.is_none() || state == TaskState::Active)
        && (task.result.is_none() || state == TaskState::Completed);
    ensure(holds, || {
        format!("{queue}: not a valid {state} task: {task:?}")
    })
}

/// Checks that a lookup of each task returns what its list shows.
async fn looked_up_alone(
    broker: &SharedBroker,
    queue: &Name,
    list: &[TaskInfo],
) -> Result<(), Fault> {
    let mut refs: Vec<_> = list.iter().map(|task| task.envelope.task_ref()).collect();
    let mut expected: Vec<_> = list.iter().cloned().map(Some).collect();
    // A missing task must not shift the others.
    let missing = TaskId::new("there-is-no-such-task").map_err(|error| Fault(error.to_string()))?;
    refs.insert(0, TaskRef::new(queue, missing));
    expected.insert(0, None);
    let found = broker.tasks(&refs).await?;
    same(
        format_args!("{queue}: tasks looked up alone"),
        &found,
        &expected,
    )
}

/// Checks that a list is in the order of its times and priorities, as far as they determine it.
fn in_order(queue: &Name, state: TaskState, list: &[TaskInfo]) -> Result<(), Fault> {
    let in_order = match state {
        TaskState::Scheduled | TaskState::Retry => list.is_sorted_by_key(|task| task.at),
        TaskState::Completed | TaskState::Archived => {
            list.is_sorted_by(|newer, older| newer.at >= older.at)
        }
        TaskState::Pending => list.is_sorted_by(|first, next| {
            first.envelope.options.priority >= next.envelope.options.priority
        }),
        _ => true,
    };
    ensure(in_order, || {
        format!("{queue}: {state} tasks are not in order: {list:?}")
    })
}
