//! Looks tasks up and changes them, again where one has changed in between.

use std::collections::HashSet;

use super::{MAX_CHUNK, nothing};
use crate::{
    broker::{BrokerError, Change, Edit, Edited, Store, TaskInfo},
    task::TaskRef,
};

/// What is to be done about a task as it is.
pub(super) enum Step<A> {
    /// Nothing more: this is the answer.
    Answer(A),
    /// This.
    Try {
        change: Change,
        /// The answer when it was made.
        done: A,
        /// The answer when it cannot be made.
        refused: A,
    },
}

/// Does to each task what `step` says of it as it is, or answers `missing`. In the order given, also where a task is named twice.
///
/// Takes two calls for each chunk of tasks, and two more each time that some have changed in between.
pub(super) async fn edit_each<S: Store, A: Copy + Send + Sync>(
    store: &S,
    tasks: &[TaskRef],
    missing: A,
    step: impl Fn(TaskInfo) -> Step<A> + Send + Sync,
) -> Result<Vec<A>, BrokerError> {
    if tasks.is_empty() {
        return nothing(store).await;
    }
    let mut answers = Vec::with_capacity(tasks.len());
    for chunk in tasks.chunks(MAX_CHUNK) {
        answers.extend(edit_chunk(store, chunk, missing, &step).await?);
    }
    Ok(answers)
}

async fn edit_chunk<S: Store, A: Copy + Send + Sync>(
    store: &S,
    tasks: &[TaskRef],
    missing: A,
    step: &(impl Fn(TaskInfo) -> Step<A> + Send + Sync),
) -> Result<Vec<A>, BrokerError> {
    let mut answers = vec![None; tasks.len()];
    loop {
        // A task that is named twice has its second turn once the first is over.
        let mut named = HashSet::new();
        let is_open = |at: &usize| answers[*at].is_none() && named.insert(&tasks[*at]);
        let open: Vec<_> = (0..tasks.len()).filter(is_open).collect();
        if open.is_empty() {
            return Ok(answers.into_iter().flatten().collect());
        }
        let asked: Vec<_> = open.iter().map(|at| tasks[*at].clone()).collect();
        let (mut edits, mut tried) = (Vec::new(), Vec::new());
        for (at, found) in open.into_iter().zip(store.tasks(&asked).await?) {
            let Some(seen) = found else {
                answers[at] = Some(missing);
                continue;
            };
            match step(seen.clone()) {
                Step::Answer(answer) => answers[at] = Some(answer),
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
            answers[at] = match edited {
                Edited::Done => Some(done),
                Edited::Locked | Edited::Refused => Some(refused),
                Edited::Changed => None,
            };
        }
    }
}
