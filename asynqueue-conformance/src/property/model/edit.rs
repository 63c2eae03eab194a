//! Changes of single tasks that were looked up.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{Change, Edit, Edited, LeaseToken, Move},
    task::{Name, TaskRef, TaskState},
};

use super::{Entry, Model, Place};

impl Model {
    /// The task, if there is one.
    pub(crate) fn task(&self, task: &TaskRef) -> Option<&Entry> {
        self.find(task).map(|place| &self.tasks[place])
    }

    /// The active tasks of a queue, with the tokens of their leases.
    pub(crate) fn active(&self, queue: &Name) -> Vec<(Entry, LeaseToken)> {
        let token = |entry: Entry| match entry.place {
            Place::Active { token, .. } => Some((entry, token)),
            _ => None,
        };
        let active = self.list(queue, TaskState::Active).into_iter();
        active.filter_map(token).collect()
    }

    /// Gives an active task another token, and restarts its lease.
    pub(crate) fn adopt(&mut self, task: &TaskRef, new: LeaseToken, lease: Duration) {
        let end = self.now + lease;
        if let Some(place) = self.find(task)
            && let Place::Active { token, until, .. } = &mut self.tasks[place].place
        {
            (*token, *until) = (new, end);
        }
    }

    /// Changes a task if it has the state and the envelope that were seen.
    pub(crate) fn edit(&mut self, edit: &Edit) -> Edited {
        let Some(place) = self.find(&edit.task_ref()) else {
            return Edited::Changed;
        };
        let entry = &self.tasks[place];
        let state = entry.state();
        if (state, &entry.envelope) != (edit.seen.state, &edit.seen.envelope) {
            return Edited::Changed;
        }
        match (&edit.change, state) {
            (Change::Cancel { reason }, TaskState::Active) => {
                if let Place::Active { cancel, .. } = &mut self.tasks[place].place {
                    cancel.get_or_insert_with(|| reason.clone());
                }
                Edited::Done
            }
            (Change::Cancel { .. }, _) | (_, TaskState::Active) => Edited::Refused,
            (Change::Delete, _) => {
                self.put(place, None);
                Edited::Done
            }
            (Change::Put { .. }, TaskState::Completed) => Edited::Refused,
            (Change::Put { envelope, to }, _) => {
                let leaves_archive = state == TaskState::Archived
                    && matches!(to, Some(Move::Pending | Move::Scheduled(_)));
                if leaves_archive && self.locked_out(place) {
                    return Edited::Locked;
                }
                self.tasks[place].envelope = Arc::clone(envelope);
                self.shift(place, *to);
                Edited::Done
            }
        }
    }

    fn shift(&mut self, place: usize, to: Option<Move>) {
        let next = match to {
            None => return,
            Some(Move::Scheduled(due)) if due > self.now => Place::Scheduled { due },
            Some(Move::Pending | Move::Scheduled(_)) => self.last_turn(),
            Some(Move::Archived) => Place::Archived { at: self.now },
        };
        self.put(place, Some(next));
    }
}
