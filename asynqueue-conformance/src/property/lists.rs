//! Reads lists to their end.

use std::collections::HashSet;

use asynqueue_core::{
    broker::{Page, SharedBroker, TaskInfo},
    task::{Name, TaskState},
};

use super::difference::{Fault, ensure};

/// A complete list, read page by page like the given one.
pub(super) async fn complete_list(
    broker: &SharedBroker,
    queue: &Name,
    state: TaskState,
    mut page: Page,
) -> Result<Vec<TaskInfo>, Fault> {
    let mut tasks: Vec<TaskInfo> = Vec::new();
    let mut met = HashSet::new();
    let limit = page.limit;
    loop {
        let part = broker.list(queue, state, page.clone()).await?;
        let read = part.tasks.len();
        ensure(read <= limit, || {
            format!("{queue}: a page of {read} {state} tasks, expected at most {limit}")
        })?;
        // Otherwise a broker whose cursors do not advance would be read forever.
        for task in part.tasks {
            let id = task.envelope.id.clone();
            ensure(met.insert(id.clone()), || {
                format!("{queue}/{id} is twice in the list of {state} tasks, in pages of {limit}")
            })?;
            tasks.push(task);
        }
        if part.next.is_none() {
            return Ok(tasks);
        }
        ensure(read > 0, || {
            format!("{queue}: an empty page of {state} tasks that is not the last")
        })?;
        page.after = part.next;
    }
}
