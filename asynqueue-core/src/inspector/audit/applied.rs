//! Recording actions on tasks: one entry for each queue, and one for each edited task.

use std::collections::BTreeMap;

use super::{AuditEdit, AuditEntry};
use crate::{
    broker::{BrokerError, Replacement},
    inspector::{Action, ActionOutcome, Inspector},
    task::{Envelope, Name, TaskRef},
};

/// The most edits of a call that are recorded with the payload before.
pub(in crate::inspector) const MAX_EDITS: usize = 1_000;

impl Inspector {
    /// Adds what an action replaced, if it is an edit.
    pub(in crate::inspector) fn edited(
        &self,
        action: &Action,
        replaced: &Replacement,
        edits: &mut Vec<(TaskRef, AuditEdit)>,
    ) {
        if matches!(action, Action::EditPayload(_)) && edits.len() < MAX_EDITS {
            let before = &replaced.seen.envelope;
            let edit = self.edit_of(before, &replaced.envelope);
            edits.push((before.task_ref(), edit));
        }
    }

    /// The payload before an edit, as a viewer sees it.
    pub(in crate::inspector) fn edit_of(&self, before: &Envelope, after: &Envelope) -> AuditEdit {
        let show = |task: &Envelope| self.viewer.show(&task.codec, &task.payload);
        AuditEdit::new(&show(before), &show(after))
    }

    /// Records an action on tasks. After an error, there are fewer outcomes than tasks.
    pub(in crate::inspector) async fn record_applied(
        &self,
        action: &Action,
        tasks: &[TaskRef],
        outcomes: &[ActionOutcome],
        edits: Vec<(TaskRef, AuditEdit)>,
        error: Option<&BrokerError>,
    ) {
        let mut entries = edit_entries(action, edits);
        let is_edited = |task: &TaskRef| entries.contains_key(task);
        let mut queues: BTreeMap<&Name, AuditEntry> = BTreeMap::new();
        for (task, outcome) in tasks.iter().zip(outcomes) {
            if is_edited(task) {
                continue;
            }
            let new = || AuditEntry::of_action(action, task.queue.clone());
            let entry = queues.entry(&task.queue).or_insert_with(new);
            match outcome {
                ActionOutcome::Done => *entry = entry.clone().changed(&task.id),
                ActionOutcome::NotFound | ActionOutcome::Refused(_) => entry.refused += 1,
            }
        }
        if let Some(error) = error
            && let Some(task) = tasks.get(outcomes.len())
        {
            let new = || AuditEntry::of_action(action, task.queue.clone());
            let entry = queues.entry(&task.queue).or_insert_with(new);
            entry.error = Some(error.to_string());
        }
        let changed = |entry: &AuditEntry| entry.done > 0 || entry.error.is_some();
        let changed = queues.into_values().filter(changed);
        let edits = std::mem::take(&mut entries).into_values();
        self.record(edits.chain(changed)).await;
    }

    /// Records edits that a bulk action made.
    pub(in crate::inspector) async fn record_edits(
        &self,
        action: &Action,
        edits: Vec<(TaskRef, AuditEdit)>,
    ) {
        self.record(edit_entries(action, edits).into_values()).await;
    }
}

fn edit_entries(
    action: &Action,
    edits: Vec<(TaskRef, AuditEdit)>,
) -> BTreeMap<TaskRef, AuditEntry> {
    let entry = |(task, edit): (TaskRef, AuditEdit)| {
        let entry = AuditEntry::of_action(action, task.queue.clone()).changed(&task.id);
        let edit = Some(edit);
        (task, AuditEntry { edit, ..entry })
    };
    edits.into_iter().map(entry).collect()
}
