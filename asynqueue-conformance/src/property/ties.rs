//! Tasks with the same time, whose order stores choose freely.

use asynqueue_core::{
    broker::{Keep, TaskInfo},
    task::{TaskRef, TaskState, Timestamp},
};

use super::{
    operation::Operation,
    state::{QueueState, State},
};

/// Sorts tasks with the same time by id. Their times stay in the order of the list.
pub(super) fn sort(list: &mut [TaskInfo]) {
    for tied in list.chunk_by_mut(|one, other| time(one).is_some() && time(one) == time(other)) {
        tied.sort_by(|one, other| one.envelope.id.cmp(&other.envelope.id));
    }
}

/// Operations that have the same result in whatever order tasks with the same time are: due ones are moved one after the
/// other instead of being forwarded, and no limit separates expired or archived ones.
pub(super) fn without(operation: &Operation, before: &State, now: Timestamp) -> Vec<Operation> {
    let separates = |state: TaskState, limit: &usize| {
        let mut lists = before.queues.iter().map(|queue| queue.list(state));
        lists.any(|list| separates(list, *limit))
    };
    let definite = match operation {
        Operation::Forward(_) => {
            let tied = before
                .queues
                .iter()
                .flat_map(|queue| due_together(queue, now));
            return vec![Operation::RunNow(tied.collect()), operation.clone()];
        }
        Operation::Reclaim(limit) => {
            let mut limits = *limit..;
            let limit = limits.find(|limit| !separates(TaskState::Active, limit));
            limit.map(Operation::Reclaim)
        }
        Operation::Trim(keep, limit) => {
            let mut limits = (0..=keep.archived_max).rev();
            let most = limits.find(|most| !separates(TaskState::Archived, most));
            most.map(|most| Operation::Trim(Keep::new(keep.archived_for, most), *limit))
        }
        _ => None,
    };
    vec![definite.unwrap_or_else(|| operation.clone())]
}

/// The due tasks of a queue that wait in one list for the same time as another.
fn due_together(queue: &QueueState, now: Timestamp) -> Vec<TaskRef> {
    let lists = [TaskState::Scheduled, TaskState::Retry].map(|state| queue.list(state));
    let tied = lists
        .into_iter()
        .flat_map(|list| list.chunk_by(|one, other| one.at == other.at));
    let due = tied.filter(|tied| tied.len() > 1 && tied[0].at <= Some(now));
    due.flatten().map(|task| task.envelope.task_ref()).collect()
}

/// Whether the first tasks of a list, up to this number, have the same time as one of the others.
fn separates(list: &[TaskInfo], first: usize) -> bool {
    let (first, rest) = list.split_at(list.len().min(first));
    let around = first.last().zip(rest.first());
    around.is_some_and(|(last, next)| time(last) == time(next))
}

/// When a task is due or has ended, or its lease ends.
fn time(task: &TaskInfo) -> Option<Timestamp> {
    task.at.or(task.lease.as_ref().map(|lease| lease.until))
}
