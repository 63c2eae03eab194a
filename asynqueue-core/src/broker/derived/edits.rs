//! Reads tasks and edits them, and repeats this for tasks that have changed in between.

use std::collections::HashSet;

use super::{MAX_CHUNK, nothing};
use crate::{
    broker::{BrokerError, Change, Edit, Edited, Store, TaskInfo},
    task::TaskRef,
};

/// What to do with a task, given its current state.
pub(super) enum Step<A> {
    /// Nothing. Return this result.
    Return(A),
    /// Make a change.
    Try {
        change: Change,
        /// The result if the change was made.
        done: A,
        /// The result if the change cannot be made.
        refused: A,
    },
}

/// Does what `step` returns for each task, or returns `missing` if it does not exist. The results are in the order
/// given, even if a task is named twice.
///
/// Makes two calls for each chunk of tasks, and two more each time some have changed in between.
pub(super) async fn edit_each<S: Store, A: Copy + Send + Sync>(
    store: &S,
    tasks: &[TaskRef],
    missing: A,
    step: impl Fn(TaskInfo) -> Step<A> + Send + Sync,
) -> Result<Vec<A>, BrokerError> {
    if tasks.is_empty() {
        return nothing(store).await;
    }
    let mut results = Vec::with_capacity(tasks.len());
    for chunk in tasks.chunks(MAX_CHUNK) {
        results.extend(edit_chunk(store, chunk, missing, &step).await?);
    }
    Ok(results)
}

async fn edit_chunk<S: Store, A: Copy + Send + Sync>(
    store: &S,
    tasks: &[TaskRef],
    missing: A,
    step: &(impl Fn(TaskInfo) -> Step<A> + Send + Sync),
) -> Result<Vec<A>, BrokerError> {
    let mut results = vec![None; tasks.len()];
    loop {
        // If a task is named twice, its second edit waits for the first.
        let mut named = HashSet::new();
        let is_open = |at: &usize| results[*at].is_none() && named.insert(&tasks[*at]);
        let open: Vec<_> = (0..tasks.len()).filter(is_open).collect();
        if open.is_empty() {
            return Ok(results.into_iter().flatten().collect());
        }
        let wanted: Vec<_> = open.iter().map(|at| tasks[*at].clone()).collect();
        let (mut edits, mut tried) = (Vec::new(), Vec::new());
        for (at, found) in open.into_iter().zip(store.tasks(&wanted).await?) {
            let Some(seen) = found else {
                results[at] = Some(missing);
                continue;
            };
            match step(seen.clone()) {
                Step::Return(result) => results[at] = Some(result),
                Step::Try {
                    change,
                    done,
                    refused,
                } => {
                    edits.push(Edit { seen, change });
                    tried.push((at, done, refused));
                }
            }
        }
        if edits.is_empty() {
            continue;
        }
        for ((at, done, refused), edited) in tried.into_iter().zip(store.edit(&edits).await?) {
            results[at] = match edited {
                Edited::Done => Some(done),
                Edited::Locked | Edited::Refused => Some(refused),
                Edited::Changed => None,
            };
        }
    }
}
